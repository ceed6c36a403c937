"""Which samples make the rows, with which loss and labels."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.arguments import whole_number
from chita.collect.gradients import Collected, collect_gradients
from chita.data.batches import Data, Indexed, choose
from chita.data.examples import Examples, as_examples
from chita.data.pool import Pool, make_pool
from chita.errors import InputError
from chita.layout import Layout
from chita.losses import Loss, LossLike, OutputLoss, check_loss, make_loss
from chita.models.forward import failures_named
from chita.models.mode import state_kept
from chita.progress import Progress

_LABELS = ("data", "model")
_FISHERS = ("auto", "improved", "empirical")
_STORAGE = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_BATCH = 100
_ROWS = 1000
_HELD_OUT = 2000


@final
@dataclass(frozen=True, kw_only=True)
class Drawn:
    """The samples of the rows in order, the `loss`, and the `digest` of the samples as given.

    `improved` tells whether rows are divided by their errors (`chita.collect.improved`).
    """

    examples: Examples
    loss: Loss
    digest: str | None
    improved: bool


@final
@dataclass(frozen=True, kw_only=True)
class Sampling:
    """What `prune` is told about rows; see there.

    Raises `InputError` when a field cannot be used.
    """

    rows: int | None = None
    row_size: int = 1
    held_out: int | None = None
    fisher: str = "auto"
    rows_dtype: str | None = None
    loss: LossLike = None
    labels: str = "data"
    seed: int = 0
    row_indices: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for name, least, meaning in (
            ("rows", 1, "gradients collected"),
            ("row_size", 1, "samples in a row"),
            ("held_out", 0, "samples that judge"),
            ("seed", 0, "the draw of samples"),
        ):
            value = getattr(self, name)
            if value is not None or name in ("row_size", "seed"):
                value = whole_number(name, value, at_least=least, meaning=meaning)
                object.__setattr__(self, name, value)
        if self.fisher not in _FISHERS:
            raise InputError(f"fisher is {self.fisher!r}; give one of {', '.join(_FISHERS)}.")
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

    @property
    def storage(self) -> torch.dtype | None:
        """The type in which rows are kept, None for that of the weights."""
        return _STORAGE[self.rows_dtype] if self.rows_dtype else None

    @property
    def count(self) -> int:
        """Number of rows n of a stage, as far as it is known without the data."""
        if self.row_indices is None:
            return self.rows or _ROWS
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
            "held_out": self.held_out,
            "fisher": self.fisher,
            "rows_dtype": self.rows_dtype,
            "loss": loss if isinstance(loss, str) or loss is None else type(loss).__name__,
            "labels": self.labels,
            "seed": self.seed,
            "row_indices": None if self.row_indices is None else len(self.row_indices),
        }


@final
class Source:
    """The samples of a run: those of one stage after another, and those that judge.

    Fields: `held`, the latter, None where there are none; `rows`, n of every stage; `pool`, all
    others, which stages draw from.

    Raises `InputError` when the data are too few, or judges are asked for and none are left.
    """

    def __init__(self, sampling: Sampling, data: Data | None, *, judged: bool) -> None:
        if data is None:
            raise InputError("This method needs calibration data: give pairs (inputs, targets).")
        self._sampling = sampling
        self._named: Examples | None = None
        data = as_examples(data) or data
        if sampling.row_indices is not None:
            self._named = choose(data, sampling.row_indices, sampling.row_size)
        size = len(data) if isinstance(data, Indexed) else None
        self.rows, held_out = _shares(sampling, size, judged=judged)
        others = _without(data, sampling)
        self._free = len(others) if isinstance(others, _Part) else None
        self.pool: Pool = make_pool(others, seed=sampling.seed, held_out=held_out)
        self.held = self.pool.held
        self._stages = 0

    def next(self) -> Examples:
        """Return the samples of the rows of the next stage, as given."""
        self._stages += 1
        if self._named is not None:
            return self._named
        return self.pool.draw(self.rows * self._sampling.row_size)

    def some(self, count: int) -> Examples:
        """Return the same `count` samples whenever asked, or as many as there are."""
        if self._named is not None and self._free == 0:
            return self._named.first(count)
        return self.pool.some(count)

    def judges(self, model: nn.Module, device: torch.device) -> Examples | None:
        """Return the samples held out, on a device, with their labels."""
        if self.held is None:
            return None
        with state_kept(model):
            return _labelled(self._sampling, self.held.to(device), model, 0)

    def drawn(self, given: Examples, model: nn.Module, device: torch.device) -> Drawn:
        """Return the samples of a stage's rows on a device, with their loss and labels."""
        sampling = self._sampling
        loss = sampling.loss_for(given.parts[0])
        return Drawn(
            examples=_labelled(sampling, given.to(device), model, self._stages - 1),
            loss=loss,
            digest=given.digest(),
            improved=_improved(sampling.fisher, loss),
        )

    def collected(
        self,
        given: Examples,
        model: nn.Module,
        layout: Layout,
        device: torch.device,
        progress: Progress,
    ) -> tuple[Drawn, Collected]:
        """Return the samples of a stage and its rows at the present weights; buffers are kept."""
        with state_kept(model):
            drawn = self.drawn(given, model, device)
            return drawn, collect_gradients(
                model,
                layout,
                drawn.examples,
                row_size=self._sampling.row_size,
                loss=drawn.loss,
                storage=self._sampling.storage,
                improved=drawn.improved,
                progress=progress,
            )


def _shares(sampling: Sampling, size: int | None, *, judged: bool) -> tuple[int, int]:
    """The rows of a stage, and the samples held out.

    Held out are, unless asked for, half as many samples as those of a stage's rows, at most 2,000
    and a fifth of the data; fewer, down to a quarter of that, where the rows need the others. Of
    batches that come one after another none are, unless they judge.
    """
    asked, rows = sampling.held_out, sampling.count
    wanted = max(1, min(_HELD_OUT, rows * sampling.row_size // 2))
    if size is None:
        return rows, asked if asked is not None else wanted if judged else 0
    wanted = asked if asked is not None else max(1, min(wanted, size // 5))
    if sampling.row_indices is None and sampling.rows is None:
        rows = max(1, min(rows, (size - (wanted if judged else 0)) // sampling.row_size))
    used = rows * sampling.row_size
    free = size - used
    held = max(0, min(wanted, free))
    least = wanted if asked is not None else max(1, wanted // 4)
    if judged and held < least and free >= 0:
        raise InputError(
            f"{used} of {size} samples would make the rows, which leaves {free} to choose ridge, "
            f"first_order, step and masks by, but {least} are needed at least. Lower rows, give "
            "more data, or fix those three; cbs then also needs held_out 0."
        )
    return rows, held


def _without(data: Data, sampling: Sampling) -> Data:
    """The data without the samples that row indices name."""
    if sampling.row_indices is None or not isinstance(data, Indexed):
        return data
    free = torch.ones(len(data), dtype=torch.bool)
    free[[operator.index(i) for i in sampling.row_indices]] = False
    return _Part(data, free.nonzero().squeeze(1))


@final
class _Part:
    """Some samples of others, by index."""

    def __init__(self, samples: Indexed, index: Tensor) -> None:
        self._samples, self._index = samples, index

    def __len__(self) -> int:
        return len(self._index)

    def take(self, index: Tensor) -> Examples:
        return self._samples.take(self._index[index])

    def batches(self, size: int) -> Iterator[Any]:
        for part in self._index.split(size):
            yield from self._samples.take(part).batches(size)


def _improved(fisher: str, loss: Loss) -> bool:
    if fisher == "improved" and not isinstance(loss, OutputLoss):
        raise InputError(
            f"The improved Fisher needs a loss that compares outputs with targets (cross_entropy, "
            f'nll, mse); this is {loss.name}. Use fisher="auto" or "empirical".'
        )
    return fisher != "empirical" and isinstance(loss, OutputLoss)


def _labelled(sampling: Sampling, given: Examples, model: nn.Module, stage: int) -> Examples:
    """The samples as they are, or with labels drawn from the network."""
    if sampling.labels == "data":
        return given
    generator = torch.Generator().manual_seed((sampling.seed + stage) % 2**63)
    loss, parts = sampling.loss_for(given.parts[0]), []
    for part in given.batches(_BATCH):
        with failures_named(model, part):
            parts.append(loss.relabelled(model, part, generator))
    return Examples(*parts)
