"""A network with its data, as settings name them; measured, changed and written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.cli.feedback import Feedback
from chita.cli.repeat import command_of
from chita.cli.settings import Names, NetworkSettings, OutputSettings, RowSettings, pose_of
from chita.data.batches import Data, batches_of
from chita.data.examples import Examples
from chita.data.lines import is_text
from chita.data.sets import load_dataset
from chita.data.text import text_data
from chita.errors import InputError
from chita.image_format import ImageFormat
from chita.imports import imported, is_import
from chita.losses import LossLike, check_loss
from chita.masks.fit import fit_masks, read_masks
from chita.metrics import COSINE
from chita.models.hugging_face import tokenizer_of
from chita.models.targets import decide
from chita.models.zoo import find_model, load_model
from chita.progress import Progress
from chita.pruning.before_after import before_and_after
from chita.pruning.result import PruneResult
from chita.pruning.samples import Sampling
from chita.records import RunRecord, peak_rss_mb
from chita.text_format import TextFormat
from chita.training.evaluate import Score, evaluate
from chita.training.fidelity import fidelity


@final
@dataclass(frozen=True, kw_only=True)
class Session:
    """What the settings name, loaded.

    Fields: `network`; `dropped`, tensors of its checkpoint that were left out; `calibration` and
    `evaluation`, None where there are none; `data`, the name of both; `loss`; `progress`;
    `embeds`, whether the network is judged by its embeddings, beside those of the dense one.
    """

    settings: NetworkSettings
    network: nn.Module
    dropped: tuple[str, ...]
    calibration: Data | None
    evaluation: Data | None
    data: str | None
    loss: LossLike
    progress: Progress
    embeds: bool = False

    def measured(self, network: nn.Module) -> Score:
        """Return how good a network is on the evaluation data, which there must be."""
        assert self.evaluation is not None
        if not self.embeds:
            return evaluate(network, self.evaluation, loss=self.loss, progress=self.progress)
        data = self.evaluation
        if network is self.network:  # alike to itself: two samples tell that there are embeddings
            data = Examples(next(batches_of(data, 2)))
        found = fidelity(self.network, network, data, self.progress)
        return Score(
            metric=COSINE, value=found.cosine, count=found.count, neighbours=found.neighbours
        )


def open_session(
    settings: NetworkSettings,
    *,
    feedback: Feedback,
    needs_data: bool = True,
    needs_weights: bool = True,
) -> Session:
    """Load the network and the data of the settings.

    Without `needs_data`, data that belong to the network but are not here are done without;
    without `needs_weights`, nothing is said of weights that nobody trained, perhaps.

    Raises `InputError` and `CheckpointError` on what cannot be loaded.
    """
    loss = _loss(settings.loss)
    device = _usable_device(settings.device)
    spec = find_model(settings.model)
    network, dropped = load_model(
        settings.model, settings.weights, allow_pickle=settings.allow_pickle
    )
    if dropped:
        feedback.notice(f"Dropped from the checkpoint: {', '.join(dropped)}")
    network = _on_device(network, device, settings.model)
    _check_finite(network, settings.model)
    name = spec.data if settings.data is None else settings.data
    calibration = evaluation = None
    if name is not None:
        form = _image_format(settings, spec.images)
        try:
            text = _text_reader(settings, spec.text)
            calibration, evaluation = load_dataset(name, settings.data_dir, form, text)
        except InputError:
            if needs_data or settings.data is not None or settings.data_dir is not None:
                raise
            name = None
    if needs_weights and spec.own and settings.weights is None:
        feedback.notice(
            f"no --weights: {settings.model} is taken as its function makes it, which may be at "
            "random."
        )
    return Session(
        settings=settings,
        network=network,
        dropped=dropped,
        calibration=calibration,
        evaluation=evaluation,
        data=name,
        loss=loss,
        progress=feedback.progress(),
        embeds=spec.text is not None and not spec.text.causal and loss is None and _text(name),
    )


def run(
    session: Session,
    work: Callable[[], PruneResult],
    settings: OutputSettings,
    *,
    began: float,
    dense: Score | None = None,
) -> RunRecord:
    """Measure the network, do the work, measure the result, and write it where asked for.

    `dense` is what the network measures, where that is known.
    """
    measure = None if session.evaluation is None else session.measured
    result = before_and_after(session.network, measure, work, dense=dense)
    measured: dict[str, Any] = {
        "settings": settings.model_dump(mode="json"),
        "model": session.settings.model,
        "data": session.data,
        "dropped": session.dropped,
        "repeat": command_of(result.record.command, settings),
        "peak_rss_mb": peak_rss_mb(),
        "seconds": {**result.seconds, "total": time.perf_counter() - began},
    }
    result = result.described(**measured)
    if settings.out:
        result.save(settings.out, force=settings.force)
    return result.record


def masks_for(session: Session, path: Path) -> dict[str, Tensor]:
    """Return the masks of a file, which are refused before any work if they do not fit.

    Raises `InputError` and `CheckpointError` as `read_masks` and `fit_masks` do.
    """
    masks = read_masks(path, session.network, allow_pickle=session.settings.allow_pickle)
    return fit_masks(session.network, masks)[0]


def tell_overruled(
    session: Session, targets: Names | None, ignore: Names, feedback: Feedback
) -> None:
    """Say which tensors are pruned though they are to be ignored, since targets are more precise.

    Raises `InputError` on patterns that match nothing.
    """
    for decision in decide(session.network, targets, ignore):
        if decision.overruled:
            feedback.notice(f"{decision.role.name} is pruned: {decision.rule}")


def check_rows(settings: RowSettings) -> Sampling:
    """Return how samples are drawn, but for row indices.

    Raises `InputError` on settings of rows and of the problem that no run could use.
    """
    pose_of(settings)
    return Sampling(
        rows=settings.rows,
        row_size=settings.row_size,
        rows_dtype=settings.rows_dtype,
        held_out=settings.held_out,
        labels=settings.labels,
        fisher=settings.fisher,
        seed=settings.seed,
    )


def _loss(name: str | None) -> LossLike:
    loss = imported(name) if name and is_import(name) else name
    check_loss(loss)
    return loss


def _image_format(settings: NetworkSettings, own: ImageFormat | None) -> ImageFormat:
    asked = {
        "size": settings.image_size,
        "mean": settings.image_mean,
        "std": settings.image_std,
    }
    own = own or ImageFormat()
    fields = {"size": own.size, "mean": own.mean, "std": own.std}
    return ImageFormat(**{**fields, **{k: v for k, v in asked.items() if v is not None}})  # type: ignore[arg-type]


def _text(name: str | None) -> bool:
    """Whether data of this name are text."""
    return name is not None and is_text(name)


def _text_reader(
    settings: NetworkSettings, form: TextFormat | None
) -> Callable[[str], tuple[Data, Data]] | None:
    """What reads text for a network, None where it takes none."""
    if form is None:
        return None
    asked = form if settings.length is None else replace(form, length=settings.length)
    return lambda name: text_data(name, asked, tokenizer_of(asked))


def _usable_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise InputError(
            f"The device {name!r} cannot be used here: {str(error).splitlines()[0]}. Use "
            "--device cpu, or install a PyTorch build for this hardware."
        ) from None
    return device


def _on_device(network: nn.Module, device: torch.device, name: str) -> nn.Module:
    try:
        return network.to(device)
    except (RuntimeError, NotImplementedError) as error:  # no memory there, or no values here
        raise InputError(
            f"{name} cannot be brought to the device {device}: {str(error).splitlines()[0]} Give a "
            "network whose weights have values, or another --device."
        ) from None


def _check_finite(network: nn.Module, name: str) -> None:
    bad = [
        own
        for own, weight in network.named_parameters()
        if not isinstance(weight, nn.UninitializedParameter)
        and not bool(torch.isfinite(weight).all())
    ]
    if bad:
        raise InputError(
            f"{name} has NaN or infinite values in: {', '.join(bad)}. Load sound weights, or train "
            "again."
        )
