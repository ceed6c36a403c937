"""The interface of every kind of file: it is written from a pruned network, and checked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from torch import Tensor, nn

from chita.runtimes.inputs import Inputs


@final
@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A network to be exported.

    Fields: `tensors`, the state dict, and `masks` of some of them (True = kept), both on the CPU
    under plain names; `network` with these tensors and `inputs` to call it with, each None where a
    kind needs none; `values`, the type in which a sparse file stores numbers, None for their own.
    """

    tensors: Mapping[str, Tensor]
    masks: Mapping[str, Tensor]
    network: nn.Module | None = None
    inputs: Inputs | None = None
    values: str | None = None

    def nnz_in(self, tensors: Mapping[str, Tensor]) -> int:
        """Return how many values of the masked tensors are not zero, as they are in `tensors`."""
        return sum(int(torch.count_nonzero(tensors[name])) for name in self.masks)

    def called(self) -> tuple[nn.Module, Inputs]:
        """Return the network and its inputs, of a kind that needs them."""
        assert self.network is not None
        assert self.inputs is not None
        return self.network, self.inputs


@final
@dataclass(frozen=True, kw_only=True)
class Checked:
    """The findings of the check of a written file.

    Fields: `nnz`, how many values of the masked tensors are not zero in it; `difference`, of its
    outputs (`Difference`), None where the tensors themselves were compared; `notes`,
    sentences about it.
    """

    nnz: int
    difference: float | None = None
    notes: tuple[str, ...] = ()


class Kind(ABC):
    """A kind of file.

    Fields: `name`, as on the command line; `suffix` of its file, empty for a folder; `about`, in a
    few words; `needs_network`, whether a network and inputs are needed, or tensors are enough.
    """

    name: str
    suffix: str
    about: str
    needs_network: bool = True

    def check(self) -> None:  # noqa: B027 (most kinds can be written anywhere)
        """Raise `InputError` where this kind cannot be written here."""

    def check_fit(self, pruned: Pruned) -> None:  # noqa: B027 (most kinds hold any network)
        """Raise `InputError` where this network cannot be such a file."""

    @abstractmethod
    def write(self, pruned: Pruned, path: Path) -> Checked:
        """Write to `path`, which is not there, and beside it what belongs to it; read it again.

        Raises:
            InputError: the network cannot be such a file.
            Unlike: what was written is not the network that was given.
        """
