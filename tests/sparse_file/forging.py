"""Sparse files to the byte, right and wrong ones, and tensors with any bits."""

import re
import struct
import zlib
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

import chita
from chita.errors import CheckpointError
from chita.sparse_file.types import TYPES

MAGIC = b"\x89CHITA\r\n"
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
    numbers = rng.integers(0, 2 if kind.name == "bool" else 256, (size, kind.width), np.uint8)
    numbers[rng.random(size) >= share] = 0
    return torch.from_numpy(numbers.reshape(-1)).view(kind.torch).reshape(shape)


KINDS = [kind for kind in TYPES if kind.torch is not None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """An entry of a table, and the data of its tensor."""

    name: bytes = b"w"
    kind: int = 12  # uint8
    values: int = 12
    coding: int = 0
    sizes: tuple = (8,)
    count: int = 8
    places: int = 0
    data: bytes = bytes(range(1, 9))
    checksum: int | None = None

    def packed(self):
        """As in a table."""
        data = self.padded()
        checksum = zlib.crc32(data) if self.checksum is None else self.checksum
        return (
            struct.pack("<H", len(self.name))
            + self.name
            + struct.pack(
                "<BBBBQQI",
                *(self.kind, self.values, self.coding, len(self.sizes)),
                *(self.count, self.places, checksum),
            )
            + struct.pack(f"<{len(self.sizes)}Q", *self.sizes)
        )

    def padded(self):
        """The data, filled up."""
        return self.data.ljust(-(-len(self.data) // 8) * 8, b"\0")


def forged(*rows, **told):
    """A file of such entries, whose beginning says what `told` says, its checksum right."""
    table = b"".join(row.packed() for row in rows) + told.pop("behind", b"")
    data = b"".join(row.padded() for row in rows) + told.pop("more", b"")
    return sealed(table, data, **{"entries": len(rows), **told})


def sealed(table, data, **told):
    """A header of that table with what is told, its checksum, and data."""
    length = -(-(44 + len(table) + 4) // 8) * 8
    fields = {"version": 1, "kind": 1, "entries": 0, "header": length}
    fields |= {"bytes": length + len(data), "decoded": 8, "shard": 1, "shards": 1, **told}
    body = (struct.pack("<8sHHIQQQHH", MAGIC, *fields.values()) + table).ljust(length - 4, b"\0")
    return body + struct.pack("<I", zlib.crc32(body)) + data


def resealed(content):
    """A file's bytes with the checksum that its header should have, where it has one."""
    if len(content) < 48:
        return content
    (length,) = struct.unpack_from("<Q", content, 16)
    if not 48 <= length <= len(content):
        return content
    return (
        content[: length - 4]
        + struct.pack("<I", zlib.crc32(content[: length - 4]))
        + content[length:]
    )


def bitmask(mask, numbers, size, **others):
    """An entry in the coding of bits, of uint8."""
    return Row(
        coding=1,
        sizes=(size,),
        count=len(numbers),
        places=len(mask),
        data=numbers + mask,
        **others,
    )


def gaps(between, numbers, size, **others):
    """An entry in the coding of gaps, of uint8."""
    return replace(bitmask(between, numbers, size, **others), coding=2)
