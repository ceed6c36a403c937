"""Budgets in words, as the command line, run files and records hold them."""

from __future__ import annotations

from typing import Any, final

from chita.options import Options, option


@final
class BudgetOptions(Options):
    """A budget in words; None for those that were not given.

    `chita.constraints.budget_of` makes the budget.

    >>> BudgetOptions(blocks="4x1", sparsity=0.8).given
    ('sparsity', 'blocks')
    """

    sparsity: float | None = option(
        None,
        "Share of the weights to remove: 0.9 keeps one weight in ten.",
        at_least=0,
        below=1,
    )
    max_loss: float | None = option(
        None,
        "The most that may be lost, in place of `sparsity`, which is searched for: points of an "
        "accuracy, or per cent of another measure, on validation samples.",
        above=0,
    )
    nnz: int | None = option(None, "Number of weights to keep.", at_least=1)
    megabytes: float | None = option(
        None,
        "Millions of bytes that the kept weights take at most, stored as values and a bit for "
        "each place.",
        above=0,
    )
    pattern: str | None = option(
        None,
        "N:M keeps N of every M weights along the inputs: 2:4. It takes no other budget.",
        value="N:M",
    )
    blocks: str | None = option(
        None,
        "Outputs x inputs of blocks, kept or removed whole: 4x1, 1x4. With `sparsity`.",
        value="AxB",
    )
    per_layer: str | dict[str, Any] | None = option(
        None,
        "How `sparsity` is shared: uniform or erk over tensors, outputs over all outputs alike, "
        "owl by outliers (layer by layer); or a CSV file of tensor,sparsity, without `sparsity`. "
        "search measures the loss of several levels of every tensor, and takes the best under any "
        "budget of weights, bytes or FLOPs; so does a CSV file of tensor,sparsity,loss.",
        value="WORD_OR_FILE",
    )
    flops: float | None = option(
        None,
        "Share of the dense FLOPs that remains at most: 0.3 leaves 30 %. A limit of weights or "
        "bytes may stand beside it.",
        above=0,
        at_most=1,
    )
    min_keep: int = option(
        1, "Weights kept at least in every tensor, or all of a smaller one.", at_least=0
    )

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the budgets that are given, all fields but `min_keep`."""
        named = vars(self).items()
        return tuple(name for name, value in named if value is not None and name != "min_keep")
