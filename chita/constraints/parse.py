"""Budgets from words, from texts such as "4x1 & sparsity=0.8", and from files of levels."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from chita.budget_options import BudgetOptions
from chita.constraints.allocation import SEARCHED, Searched, Total
from chita.constraints.blocks import Blocks
from chita.constraints.constraint import Budget
from chita.constraints.flops import Flops, Weights
from chita.constraints.max_loss import MaxLoss
from chita.constraints.megabytes import Megabytes
from chita.constraints.n_of_m import NofM
from chita.constraints.outliers import OUTLIERS, ByOutliers
from chita.constraints.per_layer import DISTRIBUTIONS, PerLayer, Quotas
from chita.constraints.per_output import OUTPUTS, PerOutput
from chita.constraints.sparsity import Nonzeros, Sparsity
from chita.errors import InputError
from chita.naming import nearest
from chita.options import described

_SHARED = (*DISTRIBUTIONS, OUTPUTS, SEARCHED, OUTLIERS)  # words for how a budget is shared out
# What all weights together are held to.
_TOTALS: dict[str, type[Weights]] = {"sparsity": Sparsity, "nnz": Nonzeros, "megabytes": Megabytes}
_FIELDS = {entry.name: entry for entry in described(BudgetOptions)}
_SHAPES = {  # texts of two numbers
    "pattern": (re.compile(r"(\d+)\s*:\s*(\d+)"), "N:M, N weights kept of every M, such as 2:4"),
    "blocks": (re.compile(r"(\d+)\s*[x×]\s*(\d+)"), "outputs x inputs, such as 4x1 or 1x4"),
}
_EXAMPLES = '"sparsity=0.9", "nnz=5000", "2:4", "4x1 & sparsity=0.8" or "flops=0.3 & sparsity=0.8"'


def as_budget(budget: Budget | str | None, sparsity: float | None) -> Budget:
    """Return the budget that one of two arguments gives: an object or a text, or a share to remove.

    Raises `InputError` when both are given or neither, or a text says no budget.

    >>> as_budget(None, 0.9)
    Sparsity(sparsity=0.9, min_keep=1)
    >>> as_budget("2:4", None)
    NofM(n=2, m=4)
    """
    if (budget is None) == (sparsity is None):
        given = "neither" if budget is None else "both"
        raise InputError(
            "Give either `sparsity`, the share of the weights to remove, or `budget`, such as "
            f'"2:4"; got {given}.'
        )
    if sparsity is not None:
        return Sparsity(sparsity)
    if isinstance(budget, str):
        return parse_budget(budget)
    if not isinstance(budget, Budget):
        raise InputError(
            f"`budget` is {budget!r}; give a budget such as chita.Sparsity(0.9), or a text such as "
            f"{_EXAMPLES}."
        )
    return budget


def parse_budget(text: str) -> Budget:
    """Return the budget of a text: terms with & between them.

    Terms are name=value, with the names of `BudgetOptions`; a pattern such as 2:4; blocks such as
    4x1; and the words uniform, erk, outputs, owl and search.

    Raises `InputError` on other terms, and as `budget_of` does.

    >>> parse_budget("erk & sparsity=0.8 & min_keep=2")
    PerLayer(sparsity=0.8, distribution='erk', min_keep=2)
    """
    found: dict[str, Any] = {}
    for term in map(str.strip, text.split("&")):
        name, value = _term(term, text)
        if name in found:
            raise InputError(f"The budget {text!r} gives {name} twice. Keep one.")
        found[name] = value
    return budget_of(BudgetOptions(**found))


def _term(term: str, text: str) -> tuple[str, Any]:
    """Return the field of `BudgetOptions` that a term gives, and its value."""
    name, equals, value = (part.strip() for part in term.partition("="))
    if equals and name in _FIELDS:
        # A text that is no number stays one, for the field to refuse with its range.
        return name, _FIELDS[name].numbered(value)
    for field, (shape, _) in _SHAPES.items():
        if shape.fullmatch(term):
            return field, term
    if term in _SHARED:
        return "per_layer", term
    raise InputError(
        f"{term!r} in the budget {text!r} is not known. {nearest(name, (*_FIELDS, *_SHARED))} "
        f"Write a text such as {_EXAMPLES}."
    )


def budget_of(words: BudgetOptions) -> Budget:
    """Return the budget that words make; levels by tensor are read from their file.

    Raises `InputError` on words that contradict each other, on none, and on a value out of range.

    >>> budget_of(BudgetOptions(flops=0.3, nnz=5000, min_keep=0)).words
    {'flops': 0.3, 'nnz': 5000, 'min_keep': 0}
    """
    if words.max_loss is not None:
        return _searched(words)
    how = words.per_layer
    if isinstance(how, str) and how not in _SHARED:
        how = read_levels(how)
    said = [name for name in words.given if name not in _TOTALS]
    # A search shares out any total; every other word is a budget by itself.
    if _is_searched(how) and set(said) <= {"per_layer", "flops"}:
        return Searched(_total(words), levels=how if isinstance(how, Mapping) else None)
    if len(said) > 1:
        raise InputError(
            f"{_listed(said)} are budgets of their own and were given together. Give one of them."
        )
    if words.pattern is not None:
        _check_no_total("pattern", "the pattern says how many weights are kept", words)
        return NofM(*_numbers("pattern", words.pattern))
    if words.blocks is not None:
        sparsity = _sparsity("blocks", words)
        rows, columns = _numbers("blocks", words.blocks)
        return Blocks(rows, columns, sparsity=sparsity, min_keep=words.min_keep)
    if isinstance(how, Mapping):
        _check_no_total("per_layer", "the levels say how many weights are kept", words)
        return Quotas(how, min_keep=words.min_keep)
    if how is not None:
        return _per_layer(how, words)
    return _total(words)


def _searched(words: BudgetOptions) -> MaxLoss:
    """Return the budget of a loss, with words for where the weights lie."""
    taken = {"max_loss", "blocks", "per_layer"}
    refused = [name for name in words.given if name not in taken]
    if refused or words.per_layer == SEARCHED:
        raise InputError(
            f"`max_loss` searches for the sparsity and was given with {_listed(refused)}. Leave "
            "one of them out."
            if refused
            else "`max_loss` searches for one sparsity, `per_layer` search for many. Give one."
        )
    like = budget_of(replace(words, max_loss=None, sparsity=0.5))
    return MaxLoss(words.max_loss or 0.0, like=like)


def _is_searched(how: str | Mapping[str, Any] | None) -> bool:
    """Return whether the levels of tensors are chosen by their losses."""
    if isinstance(how, Mapping):
        # A level by itself is a number; levels to choose from are lists of (sparsity, loss).
        return any(isinstance(level, list | tuple) for level in how.values())
    return how == SEARCHED


def _total(words: BudgetOptions) -> Total:
    """Return the limit of FLOPs, of weights, or of both."""
    given = _totals(words)
    if words.flops is not None and not given:
        return Flops(words.flops, min_keep=words.min_keep)
    if len(given) != 1:
        raise InputError(
            "Give one of `sparsity` (share removed, such as 0.9), `nnz` (weights kept), "
            "`megabytes` (what these take) and `max_loss` (what may be lost); got "
            f"{_listed(given) or 'none'}."
        )
    weights = _TOTALS[given[0]](vars(words)[given[0]], min_keep=words.min_keep)
    if words.flops is None:
        return weights
    return Flops(words.flops, weights=weights, min_keep=words.min_keep)


def _per_layer(how: str, words: BudgetOptions) -> Budget:
    sparsity = _sparsity("per_layer", words)
    if how in DISTRIBUTIONS:
        return PerLayer(sparsity, distribution=how, min_keep=words.min_keep)
    kind = PerOutput if how == OUTPUTS else ByOutliers
    return kind(sparsity, min_keep=words.min_keep)


def _numbers(name: str, text: str) -> tuple[int, int]:
    """Return the two numbers of a pattern or of blocks."""
    shape, wanted = _SHAPES[name]
    found = shape.fullmatch(text.strip())
    if found is None:
        raise InputError(f"`{name}` is {text!r}; write {wanted}.")
    return int(found[1]), int(found[2])


def _totals(words: BudgetOptions) -> list[str]:
    return [name for name in words.given if name in _TOTALS]


def _check_no_total(name: str, why: str, words: BudgetOptions) -> None:
    given = _totals(words)
    if given:
        raise InputError(
            f"`{name}` was given with {_listed(given)}, but {why}. Leave `{given[0]}` out."
        )


def _sparsity(name: str, words: BudgetOptions) -> float:
    """Return the share removed. Raises `InputError` if it is not given, or another total is."""
    refused = [total for total in _totals(words) if total != "sparsity"]
    if refused or words.sparsity is None:
        idle = f" and takes no {_listed(refused)}" if refused else ""
        raise InputError(
            f"`{name}` needs `sparsity`, the share that is removed, such as 0.8{idle}."
        )
    return words.sparsity


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def read_levels(path: str | Path) -> dict[str, float] | dict[str, list[tuple[float, float]]]:
    """Return the sparsity of every tensor from a CSV file with the columns tensor and sparsity.

    With a column loss, several levels of every tensor, as pairs of a sparsity and the loss there.

    Raises `InputError` when it cannot be read or is no such file.
    """
    try:
        with Path(path).open(newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"`per_layer` {path} is neither one of {', '.join(_SHARED)}, nor a file that can be "
            f"read: {error}."
        ) from None
    levels: dict[str, float] = {}
    tables: dict[str, list[tuple[float, float]]] = {}
    try:
        for line in lines:
            name, sparsity = line["tensor"], float(line["sparsity"])
            if "loss" in line:
                tables.setdefault(name, []).append((sparsity, float(line["loss"])))
            elif name in levels:
                raise ValueError(f"{name} stands in two lines")
            else:
                levels[name] = sparsity
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"`per_layer` {path} must have the columns tensor and sparsity, with a number in each "
            f"line, and for several levels of a tensor a column loss: {error}."
        ) from None
    if not lines:
        raise InputError(f"`per_layer` {path} lists no tensor.")
    return tables or levels
