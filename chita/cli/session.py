"""A network with its data, as options name them; measured, changed and written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar, final

from torch import Tensor, nn

from chita.cli.feedback import stdout
from chita.cli.options import NetworkOptions
from chita.cli.repeat import command_of
from chita.cli.requests import LoadingRequest, PruneRequest, SensitivityRequest, WritingRequest
from chita.data.batches import Data, a_few, batches_of
from chita.data.drawn import drawn
from chita.data.examples import Examples
from chita.data.lines import is_text
from chita.data.sets import load_dataset
from chita.data.text import text_data
from chita.errors import InputError
from chita.exports.run_folder import check_target, storable
from chita.image_format import ImageFormat
from chita.losses import LossLike, named_loss
from chita.masks.fit import fit_masks, read_masks
from chita.models.device import on_device, usable_device
from chita.models.hugging_face import tokenizer_of
from chita.models.targets import decide
from chita.models.zoo import find_model, load_network
from chita.progress import Placed, Progress, track
from chita.pruning.api import Scorer
from chita.pruning.result import PruneResult
from chita.pruning.run import PruneConfig
from chita.records import RunRecord, peak_rss_mb, with_total
from chita.reports.flat_record import flat_record
from chita.reports.terminal import show_run
from chita.runtimes.inputs import Inputs, sampled_inputs
from chita.settings import Request, settings_of
from chita.text_format import TextFormat
from chita.training.evaluate import Score, check_evaluation, evaluate, usual_count
from chita.training.fidelity import fidelity

_Form = TypeVar("_Form", ImageFormat, TextFormat)


@final
@dataclass(frozen=True, kw_only=True)
class Session:
    """A network and its data, loaded as the options name them.

    Fields: `network`; `dropped`, tensors of its checkpoint that were left out; `calibration` and
    `evaluation`, None where there are none; `asked`, on how many samples networks are measured, and
    the `seed` that draws them; `data`, the name of both; `loss`; `progress`; `embeds`, whether the
    network is judged by its embeddings, beside those of the dense one; `began`, when it began to be
    loaded, and `loading`, the seconds that took.
    """

    named: NetworkOptions
    network: nn.Module
    dropped: tuple[str, ...]
    calibration: Data | None
    evaluation: Data | None
    asked: int | str | None
    seed: int
    data: str | None
    loss: LossLike
    progress: Progress
    embeds: bool
    began: float
    loading: float

    @property
    def score(self) -> Scorer | None:
        """Function that measures a network on the evaluation data, None where nothing does."""
        return None if self.count == 0 else self.measured

    @cached_property
    def count(self) -> int | None:
        """Samples to measure a network on, if there are as many; None for all, 0 for none."""
        if self.evaluation is None:
            return 0
        if isinstance(self.asked, str):
            return None
        return usual_count(self.evaluation) if self.asked is None else self.asked

    @cached_property
    def _drawn(self) -> tuple[Data, int | None]:
        """The samples to measure a network on, and how many there are, None for all of them."""
        assert self.evaluation is not None
        if self.count is None:
            return self.evaluation, None
        return drawn(self.evaluation, self.count, self.seed)

    def check(self, network: nn.Module) -> None:
        """Raise `InputError` where a network cannot be measured, as a few samples show."""
        data = self._drawn[0]
        if self.embeds:
            fidelity(network, network, a_few(data))
        else:
            check_evaluation(network, data, self.loss)

    def measured(self, network: nn.Module, name: str = "") -> Score:
        """Return how good a network is on the evaluation data, which there must be.

        `name` is that of the network in the progress: dense, pruned.
        """
        data, total = self._drawn
        if self.embeds:
            if network is self.network:  # alike to itself: two samples show it has embeddings
                data = Examples(next(batches_of(data, 2)))
            score = fidelity(self.network, network, data, self.progress)
        else:
            shown = Placed(self.progress, after=f" {name}".rstrip())
            score = evaluate(network, data, loss=self.loss, progress=shown)
        return score if total is None else replace(score, of=total)

    def completed(self, config: PruneConfig) -> PruneConfig:
        """Return a config with the loss, the progress and what measures a network."""
        score = self.score
        measure = None if score is None else lambda network: score(network, "").value
        return replace(config, loss=self.loss, progress=self.progress, measure=measure)

    def calibrated(self, because: str = "") -> Data:
        """Return the calibration data. Raises `InputError` where there are none."""
        if self.calibration is None:
            raise InputError(
                f"{self.named.model} has no data of its own{because}. Name them with `data`."
            )
        return self.calibration

    def inputs(self, samples: int) -> Inputs | None:
        """Return inputs of so many samples, None where nothing shows what the network takes."""
        data = self.calibration if self.evaluation is None else self.evaluation
        return sampled_inputs(self.network, data, samples)

    def described(self, request: Request, seconds: Mapping[str, float]) -> dict[str, Any]:
        """Return what a record says of it: what was asked for, memory, and `seconds` in all."""
        phases = {"load": self.loading, **seconds}
        return {
            "model": self.named.model,
            "data": self.data,
            "dropped": self.dropped,
            "peak_rss_mb": peak_rss_mb(),
            "seconds": with_total(phases, time.perf_counter() - self.began),
            "settings": settings_of(request),
        }

    def masks(self, path: Path) -> dict[str, Tensor]:
        """Return the masks of a file, which are refused before any work if they do not fit.

        Raises `InputError` and `CheckpointError` as `read_masks` and `fit_masks` do.
        """
        masks = read_masks(path, self.network, allow_pickle=self.named.allow_pickle)
        return fit_masks(self.network, masks)[0]


def open_session(
    request: LoadingRequest, *, needs_data: bool = True, needs_weights: bool = True
) -> Session:
    """Load the network and the data that a request names.

    Without `needs_data`, data that belong to the network but are not here are done without;
    without `needs_weights`, nothing is said of weights that may be untrained.

    Raises `InputError` and `CheckpointError` on what cannot be loaded.
    """
    began = time.perf_counter()
    named, data, feedback = request.network, request.data, request.report.feedback
    loss = named_loss(data.loss)
    device = usable_device(named.device)
    spec = find_model(named.model)
    network, dropped = load_network(named.model, named.weights, allow_pickle=named.allow_pickle)
    if dropped:
        feedback.notice(f"Dropped from the checkpoint: {', '.join(dropped)}")
    network = on_device(network, device, named.model)
    name = spec.data if data.data is None else data.data
    calibration = evaluation = None
    if name is not None:
        pixels = {"size": data.image_size, "mean": data.image_mean, "std": data.image_std}
        images = _as_asked(spec.images or ImageFormat(), pixels)
        try:
            form = spec.text and _as_asked(spec.text, {"length": data.length})
            text = form and partial(_text_data, form)
            calibration, evaluation = load_dataset(name, data.data_dir, images, text)
        except InputError:
            if needs_data or data.data is not None or data.data_dir is not None:
                raise
            name = None
    if needs_weights and spec.own and named.weights is None:
        feedback.notice(
            f"no --weights: {named.model} is taken as its function makes it, which may be at "
            "random."
        )
    texts = name is not None and is_text(name)
    return Session(
        named=named,
        network=network,
        dropped=dropped,
        calibration=calibration,
        evaluation=evaluation,
        asked=None if isinstance(request, SensitivityRequest) else request.evaluation.evaluate,
        seed=request.run.seed,
        data=name,
        loss=loss,
        progress=feedback.progress(),
        embeds=spec.text is not None and not spec.text.causal and loss is None and texts,
        began=began,
        loading=time.perf_counter() - began,
    )


def open_to_write(request: WritingRequest, *, needs_data: bool = True) -> Session:
    """Open a session whose network is written to the run folder that a request names, if any.

    Raises as `open_session` does, and `OutputError` where that folder could not be written.
    """
    output = request.output
    if output.out:
        check_target(output.out, force=output.force)
    session = open_session(request, needs_data=needs_data)
    if output.out:
        storable(session.network)
    return session


def recorded(session: Session, result: PruneResult, request: WritingRequest) -> RunRecord:
    """Return the record of a result, with what was asked for, and write it where that says."""
    described = session.described(request, result.seconds)
    result = result.described(**described, repeat=command_of(result.record.command, request))
    if request.output.out:
        with track(session.progress, "write and verify", 1, "folder") as shown:
            result.save(request.output.out, force=request.output.force)
            shown.advance(1)
    return result.record


def show_result(record: RunRecord, request: WritingRequest) -> None:
    """Print a record: one JSON object, or a table with a few lines below it."""
    table = partial(show_run, record, stdout, all_layers=request.report.all_layers)
    request.report.show(flat_record(record), table, written=request.output.out)


def notice_overruled(session: Session, request: PruneRequest | SensitivityRequest) -> None:
    """Report tensors that are pruned though they are to be ignored, as targets are more precise.

    Raises `InputError` on patterns that match nothing.
    """
    for decision in decide(session.network, request.selection.targets, request.selection.ignore):
        if decision.overruled:
            request.report.feedback.notice(f"{decision.role.name} is pruned: {decision.rule}")


def _as_asked(form: _Form, asked: Mapping[str, Any]) -> _Form:
    """Return a form with what is asked for, where that is not None, in place of its own."""
    return replace(form, **{name: value for name, value in asked.items() if value is not None})


def _text_data(form: TextFormat, name: str) -> tuple[Data, Data]:
    return text_data(name, form, tokenizer_of(form))
