"""Which samples make the rows, with which loss and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from chita.arguments import whole_number
from chita.data.batches import Data, choose
from chita.data.examples import Examples
from chita.data.pool import draw
from chita.errors import InputError
from chita.losses import Loss, LossLike, check_loss, make_loss
from chita.models.forward import failures_named

_LABELS = ("data", "model")
_STORAGE = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_BATCH = 100


@final
@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The samples of the rows in order, the `loss`, and the `digest` of the samples as given."""

    examples: Examples
    loss: Loss
    digest: str | None


@final
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What `prune` is told about rows; see there.

    Raises `InputError` when a field cannot be used.
    """

    rows: int = 1000
    row_size: int = 1
    rows_dtype: str | None = None
    loss: LossLike = None
    labels: str = "data"
    seed: int = 0
    row_indices: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name, least, meaning in (
            ("rows", 1, "gradients collected"),
            ("row_size", 1, "samples in a row"),
            ("seed", 0, "the draw of samples"),
        ):
            value = whole_number(name, getattr(self, name), at_least=least, meaning=meaning)
            object.__setattr__(self, name, value)
        check_loss(self.loss)
        if self.rows_dtype is not None and self.rows_dtype not in _STORAGE:
            raise InputError(
                f"rows_dtype is {self.rows_dtype!r}; give one of {', '.join(_STORAGE)}, or none "
                "for the type of the weights."
            )
        if self.row_indices is not None and not hasattr(self.row_indices, "__len__"):
            raise InputError(
                f"row_indices is {self.row_indices!r}; give a list of whole numbers, the indices "
                "of samples."
            )
        if self.labels not in _LABELS:
            raise InputError(
                f"labels is {self.labels!r}; give one of {', '.join(_LABELS)}: those of the data, "
                "or drawn from the network's predictions."
            )

    def of(self, data: Data | None, model: nn.Module, device: torch.device) -> Drawn:
        """Return the samples of the rows on a device, with their loss and labels.

        Raises `InputError` when the data cannot give them.
        """
        if data is None:
            raise InputError("This method needs calibration data: give pairs (inputs, targets).")
        if self.row_indices is None:
            given = draw(data, self.rows * self.row_size, self.seed)
        else:
            given = choose(data, self.row_indices, self.row_size)
        loss = self.loss_for(given.parts[0])
        examples = given.to(device)
        if self.labels == "model":
            generator = torch.Generator().manual_seed(self.seed % 2**63)
            examples = Examples(
                *(_labelled(loss, model, part, generator) for part in examples.batches(_BATCH))
            )
        return Drawn(examples=examples, loss=loss, digest=given.digest())

    @property
    def storage(self) -> torch.dtype | None:
        """The type in which rows are kept, None for that of the weights."""
        return _STORAGE[self.rows_dtype] if self.rows_dtype else None

    @property
    def count(self) -> int:
        """Number of rows n."""
        if self.row_indices is None:
            return self.rows
        return len(self.row_indices) // self.row_size

    def loss_for(self, batch: Any) -> Loss:
        """Return the loss of batches of this kind."""
        return make_loss(self.loss, batch)

    def asked(self) -> dict[str, Any]:
        """Return the fields as plain data; of row indices, their number."""
        loss = getattr(self.loss, "__name__", self.loss)
        return {
            "rows": self.rows,
            "row_size": self.row_size,
            "rows_dtype": self.rows_dtype,
            "loss": loss if isinstance(loss, str) or loss is None else type(loss).__name__,
            "labels": self.labels,
            "seed": self.seed,
            "row_indices": None if self.row_indices is None else len(self.row_indices),
        }


def _labelled(loss: Loss, model: nn.Module, part: Any, generator: torch.Generator) -> Any:
    with failures_named(model, part):
        return loss.relabelled(model, part, generator)
