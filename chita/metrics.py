"""What measures of a network mean: how they are shown, and which way is better."""

from __future__ import annotations

COSINE = "mean cosine with the dense network's embeddings"


def number(metric: str, value: float) -> str:
    """Return a value of a metric as shown to people: two decimals for per cents.

    >>> number("mean squared error", 0.0123456)
    '0.01235'
    """
    return f"{value:.2f}" if is_accuracy(metric) else f"{value:.4g}"


def measured_on(metric: str, samples: int | None, of: int | None) -> str:
    """Return on which part of the samples a metric was measured, nothing where on all.

    >>> measured_on("perplexity", 64, 1219)
    ' on 64 of 1,219 sequences'
    """
    if samples is None or of is None or samples == of:
        return ""
    return f" on {samples:,} of {of:,} {'sequences' if metric == 'perplexity' else 'samples'}"


def is_accuracy(metric: str) -> bool:
    """Return whether a metric is an accuracy in per cent."""
    return metric.endswith("per cent")


def more_is_better(metric: str) -> bool:
    """Return whether a higher value is a better network: accuracies and `COSINE`, no loss.

    >>> more_is_better("top-1 accuracy, per cent"), more_is_better("perplexity")
    (True, False)
    """
    return is_accuracy(metric) or metric == COSINE
