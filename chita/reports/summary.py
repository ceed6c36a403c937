"""A record in one flat object, as programs read it."""

from __future__ import annotations

from chita.metrics import is_accuracy
from chita.records import RunRecord


def summary(record: RunRecord) -> dict[str, object]:
    """Return the object that `--json` prints.

    `objective` is Q, None for solvers without one. The accuracies are None where the metric is
    none; the values of any metric are `dense_metric` and `pruned_metric`.
    """
    counted = record.metric is not None and is_accuracy(record.metric)
    return {
        "dense_accuracy": record.dense_metric if counted else None,
        "accuracy": record.pruned_metric if counted else None,
        "metric": record.metric,
        "dense_metric": record.dense_metric,
        "pruned_metric": record.pruned_metric,
        "neighbours": record.neighbours,
        "sparsity": record.sparsity,
        "nnz": record.nnz,
        "prunable": record.prunable,
        "flops": record.flops,
        "dense_flops": record.dense_flops,
        "objective": record.objective,
        "lower_bound": record.lower_bound,
        "gap": record.gap,
        "ridge": record.ridge,
        "first_order": record.first_order,
        "fisher_blocks": record.stages[-1].fisher_blocks,
        "solver": record.solver,
        "step": record.step,
        "stages": len(record.stages),
        "epochs": record.training
        and [epoch.model_dump(mode="json") for epoch in record.training.epochs],
        "seconds": record.seconds,
        "peak_rss_mb": record.peak_rss_mb,
        "seed": record.seed,
        "repeat": record.repeat,
        "versions": record.versions,
    }
