"""The charts of one run, from its record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chita.records import LevelRecord, RunRecord, StageRecord
from chita.reports.chart import Axis, Chart, Series
from chita.reports.curves import curves
from chita.reports.runs import Reported

_POINTS = 100  # of a curve, with its last one


def charts_of(run: Reported) -> tuple[Chart, ...]:
    """Return all charts of a run that its record has something for."""
    trained = curves([run.line]) if run.line.get("epochs") and run.metric else ()
    if run.record is None:
        return trained
    record = run.record
    charts = (
        _bars(
            "layers", "Share of the weights removed, by layer", "per cent removed",
            {layer.name: layer.removed for layer in record.layers},
        ),
        _costs(record),
        _losses(record.stages),
        _course(record),
        *trained,
        heat_of(record.levels) if record.levels else None,
    )  # fmt: skip
    return tuple(filter(None, charts))


def _bars(key: str, title: str, label: str, values: Mapping[str, float], note: str = "") -> Chart:
    """The chart of some values by name."""
    return Chart(
        key=key, title=title, kind="bars", x=Axis(label=""), y=Axis(label=label), note=note,
        series=tuple(Series(name=name, x=(label,), y=(y,)) for name, y in values.items()),
    )  # fmt: skip


def _costs(record: RunRecord) -> Chart | None:
    """The cost of each layer's change: its error, or by the model of the loss."""
    errors = {n.name: n.solved.error for n in record.layers if n.solved and n.solved.error}
    if errors:
        costs = {name: 100 * error for name, error in errors.items()}
        title, label = "Change of each layer's outputs", "‖XŴ - XW‖²/‖XW‖², per cent"
        note = "On the calibration data, the layers before it pruned already."
    else:
        costs = {}
        for stage in record.stages:
            for name, cost in stage.increases.items():
                costs[name] = costs.get(name, 0.0) + cost
        title, label = "What each layer's change costs, by its gradients", "increase of the loss"
        note = (
            "½ mean((a·δ)²) over the gradients a of a layer's own change δ, summed over stages; "
            "the mean gradient, and what layers do to each other, are left out."
        )
    if not any(cost > 0 for cost in costs.values()):
        return None
    return _bars("costs", title, label, costs, note)


def _losses(stages: Sequence[StageRecord]) -> Chart | None:
    known = [
        (float(at), stage.validation_loss)
        for at, stage in enumerate(stages, 1)
        if stage.validation_loss is not None
    ]
    if len(known) < 2:
        return None
    begin = stages[0].loss_before
    return Chart(
        key="stages", title="Validation loss after each stage",
        x=Axis(label="stage", scale="count"), y=Axis(label="mean loss"),
        series=(Series.of("validation loss", known),),
        level=None if begin is None else (begin, "before the first"),
    )  # fmt: skip


def _course(record: RunRecord) -> Chart | None:
    """Q over the iterations of every stage, with the proven bound of the last."""
    series = []
    for at, stage in enumerate(record.stages, 1):
        known = [(float(i), q) for i, q in enumerate(stage.trace) if q is not None]
        step = -(-len(known) // _POINTS) or 1
        name = f"stage {at}" if len(record.stages) > 1 else "Q"
        series.append(Series.of(name, [*known[:-1:step], *known[-1:]]))
    if not any(len(own.x) > 1 for own in series):
        return None
    close = record.gap is not None and record.gap < 1  # a bound far away would hide the rest
    bound = record.lower_bound if close else None
    gap = f" At the end Q is at most {record.gap:.2%} too high." if close else ""
    return Chart(
        key="objective", title="Objective over iterations",
        x=Axis(label="iteration", scale="count"), y=Axis(label="Q"),
        series=tuple(own for own in series if own.x),
        level=None if bound is None else (bound, "no mask is lower (proven)"),
        note=f"Each stage has a model of its own, around the weights it began with.{gap}",
    )  # fmt: skip


def heat_of(levels: Sequence[LevelRecord]) -> Chart:
    """Return the heat map of the validation loss with one tensor pruned at a time."""
    rows: dict[str, dict[str, float]] = {level.tensor: {} for level in levels}
    for level in sorted(levels, key=lambda level: level.sparsity):
        if level.sparsity:  # at 0 nothing is lost
            rows[level.tensor][f"{level.sparsity:g}"] = level.loss
    return Chart(
        key="sensitivity", title="Increase of the validation loss, one tensor pruned at a time",
        kind="heat", x=Axis(label="share of the tensor removed"),
        y=Axis(label="tensor", scale="log"),
        series=tuple(Series.of(name, own.items()) for name, own in rows.items()),
        note="Red is a higher loss, blue a lower one, in shades by powers of ten.",
    )  # fmt: skip
