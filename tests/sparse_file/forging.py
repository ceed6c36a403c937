"""Sparse files to the byte, right and wrong ones, and tensors with any bits."""

import hashlib
import json
import re
from base64 import b64encode

import numpy as np
import pytest
import torch
from safetensors.torch import save

import chita
from chita.errors import CheckpointError
from chita.sparse_file.types import TYPES

MOST = 1 << 20  # bytes in memory that tests of damage allow a file


def refused(path, match=".", most=MOST):
    """That loading is one error, in one line that names the file and says what to do."""
    with pytest.raises(CheckpointError, match=match) as caught:
        chita.load(path, max_bytes=most)
    message = str(caught.value)
    assert re.fullmatch(r"[^\n]{10,600}\.", message), message
    assert str(path.parent) in message
    return message


def bytes_of(tensor):
    """All bits of a tensor, in row-major order."""
    if not tensor.numel():
        return b""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def same_bits(found, tensors):
    """That both hold the same names in order, shapes, types and bits."""
    assert list(found) == list(tensors)
    for name, tensor in tensors.items():
        assert (found[name].shape, found[name].dtype) == (tensor.shape, tensor.dtype), name
        assert bytes_of(found[name]) == bytes_of(tensor), name
    return True


def tensor_with(kind, shape, share, seed):
    """A tensor of random bits, a share of its numbers not zero."""
    rng = np.random.default_rng(seed)
    size = int(np.prod(shape, dtype=np.int64))
    dtype = getattr(torch, kind)
    numbers = rng.integers(0, 2 if kind == "bool" else 256, (size, dtype.itemsize), np.uint8)
    numbers[rng.random(size) >= share] = 0
    return torch.from_numpy(numbers.reshape(-1)).view(dtype).reshape(shape)


KINDS = [name for name in TYPES if hasattr(torch, name)]


def described(parts, tensors, **others):
    """The metadata of such parts, hashed as they should be."""
    content = {"version": 2, "tensors": tensors, **others}
    digests = [hashlib.sha256(bytes_of(parts[name])).digest() for name in sorted(parts)]
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    digests.append(hashlib.sha256(text.encode()).digest())
    return {**content, "sha256": b64encode(b"".join(digests)).decode().rstrip("=")}


def forged(parts, tensors, **others):
    """A file of such parts, described and hashed as they should be."""
    parts = {name: bytes_tensor(part) for name, part in parts.items()}
    return save(parts, {"chita": json.dumps(described(parts, tensors, **others))})


def bytes_tensor(part):
    """Bytes as a tensor of them."""
    return torch.tensor(list(part), dtype=torch.uint8) if isinstance(part, bytes) else part


def one(coding="dense", numbers=b"12345678", places=None, shape=(8,)):
    """Parts and description of one tensor of bytes, "w"."""
    parts = {"values/uint8": numbers} | ({} if places is None else {coding: places})
    return parts, {"w": [coding, "uint8", list(shape), len(numbers), len(places or b"")]}


def told(**fields):
    """The parts of one tensor, and a description that says something else of it."""
    parts, tensors = one()
    for name, value in fields.items():
        tensors["w"][("coding", "type", "shape", "values", "places").index(name)] = value
    return parts, tensors
