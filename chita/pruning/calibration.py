"""Calibration data: the samples of gradients, the validation loss, the batch-norm statistics."""

from __future__ import annotations

import math
import warnings
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
from torch import nn

from chita.collect.gradients import Collected, collect_gradients
from chita.collect.sample_parts import OrderCheck
from chita.data.batches import Data, Indexed, check_enough, held
from chita.data.examples import Examples, as_examples
from chita.data.sampler import Sampler, make_sampler
from chita.errors import InputError
from chita.layout import Layout
from chita.losses import Loss, LossLike, OutputLoss, check_loss, make_loss
from chita.models.forward import failures_named
from chita.models.mode import state_kept
from chita.options import Options, shared
from chita.progress import Progress, track
from chita.pruning.config import GRADIENTS, VALIDATION, Fisher, Memory, RunOptions
from chita.pruning.room import rows_room
from chita.pruning.schedule import NORM_SAMPLES
from chita.pruning.validation_loss import ValidationLoss
from chita.records import BatchNormRecord, finite
from chita.training.batch_norm import batch_norms, recalibrate
from chita.training.together import Together

_STORAGE = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_FEW = 8  # samples of a batch, below which its statistics are mostly chance
_JUDGED = 200  # samples that judge them
_LABELLED_AT_ONCE = 100  # samples
_NO_DATA = "This solver needs calibration data: give pairs (inputs, targets) as `data`."


@final
@dataclass(frozen=True, kw_only=True)
class StageSamples:
    """The samples of a stage's gradients in order, their `loss`, and their `digest` as given.

    `improved` says whether gradients are divided by their norms at the outputs
    (`chita.collect.improved`).
    """

    examples: Examples
    loss: Loss
    digest: str | None
    improved: bool


@final
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
        """The type in which gradients are kept, None for that of the weights."""
        return _STORAGE[self.fisher.storage] if self.fisher.storage else None

    @property
    def count(self) -> int:
        """Number of gradients n of a stage, as far as it is known without the data."""
        return self.fisher.samples or GRADIENTS

    def loss_for(self, batch: Any) -> Loss:
        """Return the loss of batches of this kind."""
        return make_loss(self.loss, batch)


@final
class Calibration:
    """The samples of a run: those of one stage after another, and those for validation.

    Fields: `count`, gradients n of every stage; `sampler`, from which stages draw.

    Args:
        sampling: how many samples make gradients, and how.
        data: as users give it.
        network: in eval mode; what is collected and measured is its.
        layout: its weights that compete.
        validated: whether something is chosen by validation samples.
        order: of the first batch's samples; one of its own unless given.
        memory: what the run may take, of which gradients have a part.

    Raises `InputError` when the data are too few, or validation samples are needed and none remain.
    """

    def __init__(
        self,
        sampling: Sampling,
        data: Data | None,
        network: nn.Module,
        layout: Layout,
        *,
        validated: bool,
        order: OrderCheck | None = None,
        memory: Memory = Memory(),
    ) -> None:
        if data is None:
            raise InputError(_NO_DATA)
        self._sampling, self._network, self._layout = sampling, network, layout
        self._device = network.get_parameter(layout.names[0]).device
        self._order = order or OrderCheck()
        data = as_examples(data) or data
        size = len(data) if isinstance(data, Indexed) else None
        self.count, validation = _shares(sampling, size, validated=validated)
        few = held(data) if size is None and sampling.fisher.samples is None else None
        if few is not None and few < self.count * sampling.fisher.samples_per_gradient + validation:
            self.count, least = _shares(sampling, few, validated=validated)
            validation = min(validation, least)
        history = sampling.fisher.history
        self._room = rows_room(memory, layout, self.count, history, self._device)
        self.sampler: Sampler = make_sampler(data, seed=sampling.seed, validation=validation)

    def draw(self) -> Examples:
        """Return the samples of the next stage's gradients, as given.

        Raises `InputError` before the first ones where the data do not consist of samples.
        """
        drawn = self.sampler.draw(self.count * self._sampling.fisher.samples_per_gradient)
        self._check_order()
        return drawn

    def _check_order(self) -> None:
        given, each = self.sampler.given, self._sampling.fisher.samples_per_gradient
        if given is not None:
            self._order(self._network, self._sampling.loss_for(given), given, each)

    def validation_loss(self, *, renewable: bool) -> ValidationLoss | None:
        """Return the loss on the validation samples with their labels, None without any.

        `renewable` says that the statistics of batch norms may be estimated again.
        """
        if self.sampler.validation is None:
            return None
        self._check_order()
        samples = self._labelled(self.sampler.validation, stage=0)
        loss = self._sampling.loss_for(samples.parts[0])
        return ValidationLoss(self._network, self._layout, samples, loss, renewable=renewable)

    def collect(
        self, given: Examples, stage: int, progress: Progress
    ) -> tuple[StageSamples, Collected]:
        """Return the samples of a stage and their gradients at the present weights.

        `stage`, from 0, seeds labels that are drawn. The buffers of the network stay as they are.
        The first one warns of tensors that have no gradient; later ones may have lost theirs.
        """
        sampling = self._sampling
        loss = sampling.loss_for(given.parts[0])
        with state_kept(self._network):
            samples = StageSamples(
                examples=self._labelled(given, stage),
                loss=loss,
                digest=given.digest(),
                improved=_is_improved(sampling.fisher.weighting, loss),
            )
            collected = collect_gradients(
                self._network,
                self._layout,
                samples.examples,
                samples_per_gradient=sampling.fisher.samples_per_gradient,
                loss=loss,
                storage=sampling.storage,
                room=self._room,
                improved=samples.improved,
                progress=progress,
            )
        if collected.unreached and stage == 0:
            warnings.warn(
                f"The gradients of {', '.join(collected.unreached)} are all zero on the samples, "
                "so removing these weights seems to cost nothing. The loss does not depend on "
                "them, or activation checkpointing with use_reentrant=True cuts their gradients "
                "off: set it to False, or leave them out with `ignore`.",
                stacklevel=2,
            )
        return samples, collected

    def norm_samples(self) -> Examples:
        """Return the samples for the statistics of batch norms, the same whenever asked."""
        return self.sampler.some(NORM_SAMPLES)

    def renew_batch_norms(
        self, samples: Examples, validation_loss: ValidationLoss | None, progress: Progress
    ) -> BatchNormRecord:
        """Estimate the statistics of batch norms again from samples, in place.

        They are taken unless the validation loss is then higher, or not finite. Without validation
        samples they are taken, but for batches of few samples, whose statistics are mostly chance:
        there the samples themselves decide, and nothing is done where they have no loss. The
        network has its weights already.

        Raises as `chita.training.batch_norm.recalibrate` does.
        """
        network, samples = self._network, samples.to(self._device)
        loss = self._sampling.loss_for(samples.parts[0])
        before = after = None
        few = validation_loss is None and len(samples) < _FEW * len(samples.parts)
        if few:
            validation_loss = ValidationLoss(
                network, self._layout, samples.first(_JUDGED), loss, renewable=False
            )
            with suppress(InputError):
                validation_loss.check()
                few = False
        if few:  # no loss tells whether they are better
            return BatchNormRecord(layers=len(batch_norms(network)), samples=0, taken=False)
        total = len(samples) + 2 * (len(validation_loss) if validation_loss else 0)
        with track(progress, "batch norms", total, "samples"):
            if validation_loss:
                before = validation_loss.present(progress.advance)
            put_back = recalibrate(network, samples, loss, progress.advance)
            if validation_loss:
                after = validation_loss.present(progress.advance)
        taken = before is None or after is None or (math.isfinite(after) and not after > before)
        if not taken:
            put_back()
        return BatchNormRecord(
            layers=len(batch_norms(network)),
            samples=len(samples),
            loss_before=finite(before),
            loss_after=finite(after),
            taken=taken,
        )

    def _labelled(self, given: Examples, stage: int) -> Examples:
        """Return samples on the device, as they are or with labels drawn from the network."""
        sampling, given = self._sampling, given.to(self._device)
        if sampling.fisher.labels == "data":
            return given
        seed = (sampling.seed + stage) % 2**63
        loss, generator = sampling.loss_for(given.parts[0]), torch.Generator().manual_seed(seed)

        def labelled(part: Any, drawing: torch.Generator) -> Any:
            with failures_named(self._network, part):
                return loss.relabelled(self._network, part, drawing)

        # The sample that shows what one takes is labelled by a generator of its own.
        tried = lambda part: labelled(part, torch.Generator())  # noqa: E731
        together = Together(self._network, tried, most=_LABELLED_AT_ONCE)
        draw = partial(labelled, drawing=generator)
        with state_kept(self._network):
            whole = given.batches(_LABELLED_AT_ONCE)
            return Examples(*(made for part in whole for _, made in together.each(part, draw)))


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


def _shares(sampling: Sampling, size: int | None, *, validated: bool) -> tuple[int, int]:
    """Return the gradients of a stage, and the number of validation samples.

    These are, unless asked for, half as many as the samples of a stage's gradients, at most 2,000
    and a fifth of the data; fewer, down to a quarter of that, where the gradients need the others.
    Of batches that come one after another there are none, unless something is chosen by them.
    """
    asked, count = sampling.validation, sampling.count
    each = sampling.fisher.samples_per_gradient
    wanted = max(1, min(VALIDATION, count * each // 2))
    if size is None:
        return count, asked if asked is not None else wanted if validated else 0
    wanted = asked if asked is not None else max(1, min(wanted, size // 5))
    if sampling.fisher.samples is None:
        count = max(1, min(count, (size - (wanted if validated else 0)) // each))
    used = count * each
    free = size - used
    validation = max(0, min(wanted, free))
    least = wanted if asked is not None else max(1, wanted // 4)
    if validated and validation < least and free >= 0:
        raise InputError(
            f"{used} of {size} samples would make the gradients, which leaves {free} for "
            f"validation, but {least} are needed at least. Lower `samples`, or give more "
            "data. Pruning needs none with `ridge`, `first_order` and `step_size` fixed, and cbs "
            "with `validation` 0, too."
        )
    return count, validation


def _is_improved(weighting: str, loss: Loss) -> bool:
    if weighting == "improved" and not isinstance(loss, OutputLoss):
        raise InputError(
            f"The improved Fisher needs a loss that compares outputs with targets (cross_entropy, "
            f'nll, mse); this is {loss.name}. Set `weighting` to "auto" or "empirical".'
        )
    return weighting != "empirical" and isinstance(loss, OutputLoss)
