"""A record in one flat object, as programs read it."""

from __future__ import annotations

from chita.metrics import is_accuracy
from chita.records import RunRecord

_SAME = {
    *("metric", "dense_metric", "pruned_metric", "evaluated", "evaluated_of", "neighbours"),
    *("sparsity", "nnz", "prunable"),
    *("flops", "dense_flops", "objective", "lower_bound", "ridge", "first_order", "step_size"),
    *("solver", "seconds", "peak_rss_mb", "seed", "repeat", "versions"),
}
"""Fields of the record that are fields of the object."""


def flat_record(record: RunRecord) -> dict[str, object]:
    """Return the object that `--json` prints.

    `objective` is Q, None for solvers without one. The accuracies are None where the metric is
    no accuracy; the values of any metric are `dense_metric` and `pruned_metric`.
    """
    counted = record.metric is not None and is_accuracy(record.metric)
    training = record.training
    return {
        "dense_accuracy": record.dense_metric if counted else None,
        "accuracy": record.pruned_metric if counted else None,
        **record.model_dump(mode="json", include=_SAME),
        "gap": record.gap,
        "structure": record.stages[-1].structure,
        "stages": len(record.stages),
        "epochs": training and training.model_dump(mode="json")["epochs"],
    }
