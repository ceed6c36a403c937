"""Records and lines of sweeps, made up, for tests of reports."""

import json

from chita.cli.requests import PruneRequest
from chita.records import LayerRecord, LevelRecord, RunRecord, StageRecord, TensorRecord
from chita.sensitivity_record import SensitivityRecord
from chita.settings import request_of, settings_of

ACCURACY = "top-1 accuracy, per cent"


def line(solver="chita", seed=0, value=90.0, sparsity=0.9, metric=ACCURACY, **fields):
    """What a sweep writes of a run."""
    asked = {"solver": solver, "sparsity": sparsity, "seed": seed, "model": "digits-mlp"}
    settings = settings_of(request_of(PruneRequest, asked))
    return {
        "run": {"solver": solver, "sparsity": sparsity, "seed": seed},
        "settings": settings,
        "solver": solver,
        "metric": metric,
        "dense_metric": 95.0,
        "pruned_metric": value,
        "sparsity": sparsity,
        "nnz": round(1000 * (1 - sparsity)),
        "prunable": 1000,
        "seconds": {"collect": 0.5, "solve": 1.0, "total": 2.0},
        "peak_rss_mb": 500.0,
        "seed": seed,
        **fields,
    }


def stage(sparsity, before, after, predicted, trace=(0.3, 0.2, 0.1), **fields):
    """A stage of a record."""
    return StageRecord(
        sparsity=sparsity,
        nnz=round(1000 * (1 - sparsity)),
        objective=predicted / 2,
        predicted=predicted,
        ridge=0.1,
        first_order=0.0,
        step_size=1.0,
        structure="full",
        loss_before=before,
        validation_loss=after,
        increases={"a": 0.25, "b": 0.5},
        status="converged",
        iterations=len(trace) - 1,
        trace=trace,
        seconds={"collect": 1.0, "solve": 2.0},
        memory_mb={"collect": 300.0, "solve": 400.0},
        **fields,
    )


def record(names=("a", "b"), stages=None, **fields):
    """The record of a run in two stages, of two layers that lose 80 and 100 of 100 and 900."""
    given = {
        "command": "prune",
        "settings": {"sparsity": 0.9},
        "solver": "chita",
        "options": {},
        "sparsity": 0.9,
        "nnz": 100,
        "prunable": 1000,
        "ridge": 0.1,
        "first_order": 0.0,
        "step_size": 1.0,
        "samples": 10,
        "samples_per_gradient": 1,
        "seed": 0,
        "loss": "cross_entropy",
        "objective": 0.4,
        "lower_bound": 0.3,
        "status": "converged",
        "iterations": 2,
        "stages": stages or (stage(0.5, 0.1, 0.15, 0.04), stage(0.9, 0.15, 0.65, 0.4)),
        "layers": (
            LayerRecord(name=names[0], shape=(10, 10), weights=100, kept=20, dead_outputs=3),
            LayerRecord(name=names[1], shape=(90, 10), weights=900, kept=80, dead_outputs=0),
        ),
        "seconds": {"collect": 2.0, "solve": 4.0, "evaluate": 1.0, "total": 8.0},
        "data_hash": "d" * 64,
        "model": "Net",
        "metric": ACCURACY,
        "dense_metric": 95.0,
        "pruned_metric": 91.5,
        "peak_rss_mb": 512.0,
        "versions": {"chita": "0.1.0", "torch": "2"},
    }
    return RunRecord.model_validate({**given, **fields})


def sensitivities(names=("a", "b"), sparsities=(0.5, 0.9)):
    """What `chita sensitivity` writes, of losses that grow with what is removed."""
    levels = [
        LevelRecord(tensor=name, sparsity=sparsity, loss=sparsity * (1 + at))
        for at, name in enumerate(names)
        for sparsity in (0.0, *sparsities)
    ]
    return SensitivityRecord(
        settings={}, solver="chita", options={}, model="Net", seed=0, samples=10,
        samples_per_gradient=1, data_hash=None, weighting="improved", validation=40,
        loss="cross_entropy", dense_loss=0.1,
        sparsities=sparsities, levels=levels, seconds={}, peak_rss_mb=None, versions={},
        tensors=[TensorRecord(name=name, shape=(2, 2), weights=4) for name in names],
    )  # fmt: skip


def write_lines(path, lines):
    """Write the results of a sweep."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def write_record(folder, own=None):
    """Write a run folder of which only the record is there."""
    folder.mkdir(parents=True)
    (folder / "record.json").write_text((own or record()).model_dump_json())
    return folder
