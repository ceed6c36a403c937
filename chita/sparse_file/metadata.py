"""The metadata of a sparse file: names, shapes and codings of its tensors, and its hashes."""

from __future__ import annotations

import hashlib
import json
import math
from base64 import b64encode
from collections.abc import Mapping
from typing import Literal, NamedTuple, final

from pydantic import BaseModel, ConfigDict, NonNegativeInt
from torch import Tensor

from chita.sparse_file.coding import Coding
from chita.sparse_file.types import WIDE, bits_of

KEY = "chita"
"""The entry of safetensors' metadata that holds all of ours, as JSON."""
VALUES = "values/"  # begins the name of a part, before the type


class StoredTensor(NamedTuple):
    """A tensor as it is stored.

    Fields: its `coding`; PyTorch's name of its type; its `shape`; how many of the values of that
    type, and how many of the bytes of that coding, are its own.
    """

    coding: Coding
    type: str
    shape: tuple[NonNegativeInt, ...]
    values: NonNegativeInt
    places: NonNegativeInt

    @property
    def size(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.shape)


@final
class SparseMetadata(BaseModel):
    """The description of a sparse file.

    Fields: `version` of the format; `narrow`, the type in which floats of 32 and 64 bits are
    stored, None for their own; `tensors` by name, each as it is stored, or the name of one before
    it to which it is equal; `sha256`, the hashes of the parts in the order of their names, and
    then of this description without them, together in base64.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[2]
    narrow: Literal["float16", "bfloat16"] | None = None
    tensors: dict[str, StoredTensor | str]
    sha256: str = ""

    def part_of(self, kind: str) -> str:
        """Return the name of the part that holds the values of tensors of a type."""
        return f"{VALUES}{self.narrow if self.narrow and kind in WIDE else kind}"

    def hashed(self, parts: Mapping[str, Tensor]) -> str:
        """Return what `sha256` has to be with such parts."""
        hashes = [hashlib.sha256(bits_of(parts[name]).data) for name in sorted(parts)]
        content = self.model_dump(mode="json", exclude={"sha256"}, exclude_none=True)
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        hashes.append(hashlib.sha256(text.encode()))
        return b64encode(b"".join(h.digest() for h in hashes)).decode().rstrip("=")
