"""The charts of one run, from its record."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from chita.records import LayerRecord, LevelRecord, RunRecord, StageRecord
from chita.reports.chart import Axis, Chart, Series
from chita.reports.curves import curves
from chita.reports.runs import Reported

_POINTS = 300  # of a curve at most
_TRIALS = 3  # fewer make no curve


def charts_of(run: Reported) -> tuple[Chart, ...]:
    """Return all charts of a run that its record has something for."""
    trained = curves([run.line]) if run.line.get("epochs") and run.metric else ()
    if run.record is None:
        return trained
    record = run.record
    charts = (
        _removed(record.layers),
        _costs(record),
        _losses(record.stages),
        _predicted(record.stages),
        _course(record),
        *trained,
        heat_of(record.levels) if record.levels else None,
        _trials(record.stages),
        _seconds(record),
        _memory(record.stages),
    )
    return tuple(chart for chart in charts if chart is not None)


def _removed(layers: Sequence[LayerRecord]) -> Chart:
    return Chart(
        key="layers",
        title="Share of the weights removed, by layer",
        kind="bars",
        x=Axis(label="layer"),
        y=Axis(label="per cent removed"),
        series=(
            Series(
                name="",
                x=tuple(layer.name for layer in layers),
                y=tuple(layer.removed for layer in layers),
                notes=tuple(f"{layer.kept:,} of {layer.weights:,} kept" for layer in layers),
            ),
        ),
    )


def _costs(record: RunRecord) -> Chart | None:
    """What each layer's change costs: its error, or what the model of the loss says."""
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
            "½ mean((a·δ)²) over the rows a of a layer's own change δ, summed over stages; the "
            "mean gradient, and what layers do to each other, are left out."
        )
    if not any(cost > 0 for cost in costs.values()):
        return None
    told = Series(name="", x=tuple(costs), y=tuple(costs.values()))
    return Chart(
        key="costs", title=title, kind="bars", x=Axis(label="layer"), y=Axis(label=label),
        series=(told,), note=note,
    )  # fmt: skip


def _losses(stages: Sequence[StageRecord]) -> Chart | None:
    known = [(at, stage) for at, stage in enumerate(stages, 1) if stage.held_out_loss is not None]
    if len(known) < 2:
        return None
    begin = known[0][1].loss_before
    after = Series(
        name="validation loss",
        x=tuple(float(at) for at, _ in known),
        y=tuple(stage.held_out_loss or 0.0 for _, stage in known),
        notes=tuple(f"{100 * stage.sparsity:.2f} % removed" for _, stage in known),
    )
    return Chart(
        key="stages", title="Validation loss after each stage", x=Axis(label="stage"),
        y=Axis(label="mean loss"), series=(after,),
        level=None if begin is None else (begin, "before the first"),
    )  # fmt: skip


def _predicted(stages: Sequence[StageRecord]) -> Chart | None:
    """What the gradients said that the loss would do, and what it did."""
    known = [
        (at, stage.predicted, stage.held_out_loss - stage.loss_before, stage.sparsity)
        for at, stage in enumerate(stages, 1)
        if stage.predicted is not None
        and stage.held_out_loss is not None
        and stage.loss_before is not None
    ]
    if not known:
        return None
    both = [value for _, *pair, _ in known for value in pair]
    ends = (min(*both, 0.0), max(both))
    points = Series(
        name="a stage",
        x=tuple(predicted for _, predicted, _, _ in known),
        y=tuple(true for _, _, true, _ in known),
        notes=tuple(f"stage {at}, {100 * sparsity:.2f} % removed" for at, *_, sparsity in known),
        joined=False,
    )
    return Chart(
        key="predicted", title="Change of the loss: predicted and true",
        x=Axis(label="predicted, by the rows' gradients"),
        y=Axis(label="true, on validation samples"),
        series=(points, Series(name="as predicted", x=ends, y=ends)),
        note="mean(a·δ) + ½ mean((a·δ)²) beside what happened; above the line the loss grew more.",
    )  # fmt: skip


def _course(record: RunRecord) -> Chart | None:
    """Q over the iterations of every stage, with the proven bound of the last."""
    traced = [(at, stage.trace) for at, stage in enumerate(record.stages, 1) if stage.trace]
    if not any(len(trace) > 1 for _, trace in traced):
        return None
    close = record.gap is not None and record.gap < 1  # a bound far away would hide the rest
    bound = record.lower_bound if close else None
    gap = f" At the end Q is at most {record.gap:.2%} too high." if close else ""
    series = []
    for at, trace in traced:
        step = -(-len(trace) // _POINTS)
        kept = [i for i in range(len(trace)) if i % step == 0 or i == len(trace) - 1]
        known = [(float(i), q) for i in kept if (q := trace[i]) is not None]
        name = f"stage {at}" if len(record.stages) > 1 else "Q"
        series.append(Series(name=name, x=tuple(i for i, _ in known), y=tuple(q for _, q in known)))
    return Chart(
        key="objective", title="Objective over iterations", x=Axis(label="iteration"),
        y=Axis(label="Q"), series=tuple(series),
        level=None if bound is None else (bound, "no mask is lower (proven)"),
        note=f"Each stage has a model of its own, around the weights it began with.{gap}",
    )  # fmt: skip


def _trials(stages: Sequence[StageRecord]) -> Chart | None:
    """What was tried to choose λ, in the stage where most was."""
    most = max(stages, key=lambda stage: len(stage.trials))
    whole = [t for t in most.trials if t.loss is not None and t.ridge > 0 and t.step == 1]
    if len(whole) < _TRIALS:
        return None
    groups: dict[str, dict[float, float]] = {}
    for trial in whole:
        name = f"Fisher {trial.fisher_blocks}, s = {trial.first_order:g}"
        name += f", after {trial.stages} stages" if trial.stages else ""
        groups.setdefault(name, {}).setdefault(trial.ridge, trial.loss or 0.0)
    return Chart(
        key="trials", title="What was tried to choose λ", x=Axis(label="λ", scale="log"),
        y=Axis(label="validation loss"),
        series=tuple(
            Series(name=name, x=tuple(sorted(own)), y=tuple(own[ridge] for ridge in sorted(own)))
            for name, own in groups.items()
        ),
        note="Of candidates before the solve, and after rehearsals; lower is better.",
    )  # fmt: skip


def _seconds(record: RunRecord) -> Chart:
    """The time of every phase, by stages where there are several."""
    stages = [(f"stage {at}", stage.seconds) for at, stage in enumerate(record.stages, 1)]
    if len(stages) == 1:
        stages = []
    own = {p for _, seconds in stages for p in seconds}
    others = {p: s for p, s in record.seconds.items() if p not in own and p != "total"}
    bars = [*stages, ("others" if stages else "run", others)]
    phases = dict.fromkeys(phase for _, seconds in bars for phase in seconds)
    return Chart(
        key="seconds", title="Time by phase", kind="bars", x=Axis(label=""),
        y=Axis(label="seconds"),
        series=tuple(
            Series(
                name=phase,
                x=tuple(name for name, _ in bars),
                y=tuple(seconds.get(phase, 0.0) for _, seconds in bars),
            )
            for phase in phases
        ),
    )  # fmt: skip


def _memory(stages: Sequence[StageRecord]) -> Chart | None:
    """The peak of memory by the end of each phase, over time."""
    ends = [
        (stage.seconds[phase], stage.memory_mb[phase], f"stage {at}, {phase}")
        for at, stage in enumerate(stages, 1)
        for phase in stage.memory_mb
        if phase in stage.seconds
    ]
    if not ends:
        return None
    told = Series(
        name="",
        x=tuple(accumulate(seconds for seconds, _, _ in ends)),
        y=tuple(peak for _, peak, _ in ends),
        notes=tuple(phase for _, _, phase in ends),
    )
    return Chart(
        key="memory", title="Peak memory by the end of each phase",
        x=Axis(label="seconds of the stages"), y=Axis(label="MB of the process"), series=(told,),
        note="PyTorch, data and network are in it; it never falls, being a peak.",
    )  # fmt: skip


def heat_of(levels: Sequence[LevelRecord]) -> Chart:
    """Return the heat map of what pruning each tensor alone costs in validation loss."""
    rows: dict[str, list[LevelRecord]] = {}
    for level in levels:
        own = rows.setdefault(level.tensor, [])
        own += [level] if level.sparsity else []  # at 0 nothing is lost
    return Chart(
        key="sensitivity", title="Increase of the validation loss, each tensor pruned alone",
        kind="heat", x=Axis(label="share of the tensor removed"),
        y=Axis(label="tensor", scale="log"),
        series=tuple(_row(name, own) for name, own in rows.items()),
        note="Red is a higher loss, blue a lower one, in shades by powers of ten.",
    )  # fmt: skip


def _row(name: str, levels: Sequence[LevelRecord]) -> Series:
    own = sorted(levels, key=lambda level: level.sparsity)
    return Series(name=name, x=tuple(f"{v.sparsity:g}" for v in own), y=tuple(v.loss for v in own))
