"""Which samples make the rows, with which loss and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import torch
from torch import nn

from chita.collect.gradients import Collected, collect_gradients
from chita.data.batches import Data, Indexed, check_enough
from chita.data.examples import Examples, as_examples
from chita.data.pool import Pool, make_pool
from chita.errors import InputError
from chita.layout import Layout
from chita.losses import Loss, LossLike, OutputLoss, check_loss, make_loss
from chita.models.forward import failures_named
from chita.models.mode import state_kept
from chita.options import Options, shared
from chita.progress import Progress
from chita.pruning.config import GRADIENTS, VALIDATION, Fisher, RunOptions

_STORAGE = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_BATCH = 100
_NO_DATA = "This solver needs calibration data: give pairs (inputs, targets) as `data`."


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
class Sampling(Options):
    """Which samples make gradients, and how.

    Fields besides: `fisher`, as asked for; `loss`, as in `prune`.

    Raises `InputError` when a field cannot be used.
    """

    fisher: Fisher = Fisher()
    validation: int | None = shared(RunOptions, "validation", None)
    seed: int = shared(RunOptions, "seed", 0)
    loss: LossLike = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_loss(self.loss)

    @property
    def storage(self) -> torch.dtype | None:
        """The type in which rows are kept, None for that of the weights."""
        return _STORAGE[self.fisher.storage] if self.fisher.storage else None

    @property
    def count(self) -> int:
        """Number of rows n of a stage, as far as it is known without the data."""
        return self.fisher.samples or GRADIENTS

    def loss_for(self, batch: Any) -> Loss:
        """Return the loss of batches of this kind."""
        return make_loss(self.loss, batch)


@final
class Source:
    """The samples of a run: those of one stage after another, and those that judge.

    Fields: `held`, the latter, None where there are none; `rows`, n of every stage; `pool`, all
    others, which stages draw from.

    Raises `InputError` when the data are too few, or judges are asked for and none are left.
    """

    def __init__(self, sampling: Sampling, data: Data | None, *, judged: bool) -> None:
        if data is None:
            raise InputError(_NO_DATA)
        self._sampling = sampling
        data = as_examples(data) or data
        size = len(data) if isinstance(data, Indexed) else None
        self.rows, held_out = _shares(sampling, size, judged=judged)
        self.pool: Pool = make_pool(data, seed=sampling.seed, held_out=held_out)
        self.held = self.pool.held
        self._stages = 0

    def next(self) -> Examples:
        """Return the samples of the rows of the next stage, as given."""
        self._stages += 1
        return self.pool.draw(self.rows * self._sampling.fisher.samples_per_gradient)

    def some(self, count: int) -> Examples:
        """Return the same `count` samples whenever asked, or as many as there are."""
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
            improved=_improved(sampling.fisher.weighting, loss),
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
                row_size=self._sampling.fisher.samples_per_gradient,
                loss=drawn.loss,
                storage=self._sampling.storage,
                improved=drawn.improved,
                progress=progress,
            )


def loss_name(loss: LossLike) -> str | None:
    """Return a loss by its name, that of its function, or that of its class."""
    name = getattr(loss, "__name__", loss)
    return name if isinstance(name, str) or name is None else type(loss).__name__


def check_samples(sampling: Sampling, data: Data | None) -> None:
    """Raise `InputError` where there are no data, or known to be too few for the gradients."""
    if data is None:
        raise InputError(_NO_DATA)
    if sampling.fisher.samples is not None and isinstance(data, Indexed):
        check_enough(len(data), sampling.fisher.samples * sampling.fisher.samples_per_gradient)


def _shares(sampling: Sampling, size: int | None, *, judged: bool) -> tuple[int, int]:
    """The rows of a stage, and the samples held out.

    Held out are, unless asked for, half as many samples as those of a stage's rows, at most 2,000
    and a fifth of the data; fewer, down to a quarter of that, where the rows need the others. Of
    batches that come one after another none are, unless they judge.
    """
    asked, rows = sampling.validation, sampling.count
    each = sampling.fisher.samples_per_gradient
    wanted = max(1, min(VALIDATION, rows * each // 2))
    if size is None:
        return rows, asked if asked is not None else wanted if judged else 0
    wanted = asked if asked is not None else max(1, min(wanted, size // 5))
    if sampling.fisher.samples is None:
        rows = max(1, min(rows, (size - (wanted if judged else 0)) // each))
    used = rows * each
    free = size - used
    held = max(0, min(wanted, free))
    least = wanted if asked is not None else max(1, wanted // 4)
    if judged and held < least and free >= 0:
        raise InputError(
            f"{used} of {size} samples would make the gradients, which leaves {free} for "
            f"validation, but {least} are needed at least. Lower `samples`, or give more "
            "data. Pruning needs none with `ridge`, `first_order` and `step_size` fixed, and cbs "
            "with `validation` 0, too."
        )
    return rows, held


def _improved(weighting: str, loss: Loss) -> bool:
    if weighting == "improved" and not isinstance(loss, OutputLoss):
        raise InputError(
            f"The improved Fisher needs a loss that compares outputs with targets (cross_entropy, "
            f'nll, mse); this is {loss.name}. Set `weighting` to "auto" or "empirical".'
        )
    return weighting != "empirical" and isinstance(loss, OutputLoss)


def _labelled(sampling: Sampling, given: Examples, model: nn.Module, stage: int) -> Examples:
    """The samples as they are, or with labels drawn from the network."""
    if sampling.fisher.labels == "data":
        return given
    generator = torch.Generator().manual_seed((sampling.seed + stage) % 2**63)
    loss, parts = sampling.loss_for(given.parts[0]), []
    for part in given.batches(_BATCH):
        with failures_named(model, part):
            parts.append(loss.relabelled(model, part, generator))
    return Examples(*parts)
