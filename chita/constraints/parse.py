"""Budgets from words, from texts such as "4x1 & sparsity=0.8", and from files of levels."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from chita.budget_options import BudgetOptions
from chita.constraints.allocated import Total
from chita.constraints.allocation import SEARCHED, Searched
from chita.constraints.blocks import Blocks
from chita.constraints.constraint import Budget
from chita.constraints.flops import Flops, Weights
from chita.constraints.megabytes import Megabytes
from chita.constraints.n_of_m import NofM
from chita.constraints.outliers import OUTLIERS, ByOutliers
from chita.constraints.per_layer import DISTRIBUTIONS, PerLayer, Quotas
from chita.constraints.per_row import ROWS, PerRow
from chita.constraints.sparsity import Nonzeros, Sparsity
from chita.errors import InputError
from chita.naming import nearest

_SHARED = (*DISTRIBUTIONS, ROWS, SEARCHED, OUTLIERS)  # words for how a budget is shared out
_TOTALS = ("sparsity", "nnz", "megabytes")  # what all weights together are held to
_NAMES = tuple(field.name for field in fields(BudgetOptions))
_BLOCKS = re.compile(r"\s*(\d+)\s*[x×]\s*(\d+)\s*")
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
    4x1; and the words uniform, erk, rows, owl and search.

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
    """The field of `BudgetOptions` that a term gives, and its value."""
    name, equals, value = (part.strip() for part in term.partition("="))
    if equals and name in _NAMES:
        return name, _number(name, value)
    if re.fullmatch(r"\d+\s*:\s*\d+", term):
        return "pattern", term
    if _BLOCKS.fullmatch(term):
        return "blocks", term
    if term in _SHARED:
        return "per_layer", term
    raise InputError(
        f"{term!r} in the budget {text!r} is not known. {nearest(name, (*_NAMES, *_SHARED))} "
        f"Write a text such as {_EXAMPLES}."
    )


def _number(name: str, value: str) -> Any:
    """A number where the field takes one; other texts as they are, for the field to refuse."""
    kind = {"nnz": int, "min_keep": int, "sparsity": float, "megabytes": float, "flops": float}
    try:
        return kind.get(name, str)(value)
    except ValueError:
        return value


def budget_of(words: BudgetOptions) -> Budget:
    """Return the budget that words make; levels by tensor are read from their file.

    Raises `InputError` on words that contradict each other, on none, and on a value out of range.

    >>> budget_of(BudgetOptions(flops=0.3, nnz=5000, min_keep=0)).words
    {'flops': 0.3, 'nnz': 5000, 'min_keep': 0}
    """
    how = words.per_layer
    if isinstance(how, str) and how not in _SHARED:
        words = replace(words, per_layer=read_levels(how))
    said = [name for name in words.given if name not in _TOTALS]
    if _is_searched(words) and set(said) <= {"per_layer", "flops"}:
        return _searched(words)
    if len(said) > 1:
        raise InputError(
            f"{_listed(said)} are budgets of their own and were given together. Give one of them."
        )
    if words.pattern is not None:
        return _pattern(words, words.pattern)
    if words.blocks is not None:
        return _blocks(words, words.blocks)
    if words.per_layer is not None:
        return _per_layer(words)
    return _weights(words) if words.flops is None else _flops(words, words.flops)


def _is_searched(words: BudgetOptions) -> bool:
    """Whether the levels of tensors are chosen by their losses."""
    if isinstance(words.per_layer, Mapping):
        return any(map(_is_list, words.per_layer.values()))
    return words.per_layer == SEARCHED


def _is_list(level: object) -> bool:
    return isinstance(level, Sequence) and not isinstance(level, str)


def _weights(words: BudgetOptions) -> Weights:
    given = [name for name in words.given if name in _TOTALS]
    if len(given) == 1:
        if words.sparsity is not None:
            return Sparsity(words.sparsity, min_keep=words.min_keep)
        if words.nnz is not None:
            return Nonzeros(words.nnz, min_keep=words.min_keep)
        if words.megabytes is not None:
            return Megabytes(words.megabytes, min_keep=words.min_keep)
    raise InputError(
        "Give one of `sparsity` (share removed, such as 0.9), `nnz` (weights kept) and `megabytes` "
        f"(what these take); got {_listed(given) or 'none'}."
    )


def _flops(words: BudgetOptions, share: float) -> Flops:
    limited = any(name in _TOTALS for name in words.given)
    weights = _weights(words) if limited else None
    return Flops(share, weights=weights, min_keep=words.min_keep)


def _pattern(words: BudgetOptions, pattern: str) -> NofM:
    _alone("pattern", "the pattern says how many weights are kept", words)
    n, colon, m = (part.strip() for part in pattern.partition(":"))
    if not (colon and n.isdecimal() and m.isdecimal()):
        raise InputError(
            f"`pattern` is {pattern!r}; write N:M, N weights kept of every M, such as 2:4."
        )
    return NofM(int(n), int(m))


def _blocks(words: BudgetOptions, blocks: str) -> Blocks:
    sparsity = _share("blocks", words)
    found = _BLOCKS.fullmatch(blocks)
    if found is None:
        raise InputError(
            f"`blocks` is {blocks!r}; write outputs x inputs of a block, such as 4x1 or 1x4."
        )
    rows, columns = map(int, found.groups())
    return Blocks(rows, columns, sparsity=sparsity, min_keep=words.min_keep)


def _per_layer(words: BudgetOptions) -> Budget:
    how = words.per_layer
    if isinstance(how, Mapping):
        _alone("per_layer", "the levels say how many weights are kept", words)
        return Quotas(how, min_keep=words.min_keep)
    sparsity = _share("per_layer", words)
    if how == OUTLIERS:
        return ByOutliers(sparsity, min_keep=words.min_keep)
    if how == ROWS:
        return PerRow(sparsity, min_keep=words.min_keep)
    return PerLayer(sparsity, distribution=str(how), min_keep=words.min_keep)


def _searched(words: BudgetOptions) -> Searched:
    total: Total = _weights(words) if words.flops is None else _flops(words, words.flops)
    if not isinstance(words.per_layer, Mapping):
        return Searched(total)
    single = [n for n, level in words.per_layer.items() if not _is_list(level)]
    if single:
        raise InputError(
            f"`per_layer` gives one level for {', '.join(single)}, and lists of (sparsity, loss) "
            "for others. Give lists for all, or levels for all."
        )
    return Searched(total, levels=words.per_layer)


def _alone(name: str, why: str, words: BudgetOptions) -> None:
    given = [total for total in words.given if total in _TOTALS]
    if given:
        raise InputError(
            f"`{name}` was given with {_listed(given)}, but {why}. Leave `{given[0]}` out."
        )


def _share(name: str, words: BudgetOptions) -> float:
    others = [total for total in words.given if total in _TOTALS and total != "sparsity"]
    if others or words.sparsity is None:
        idle = f" and takes no {_listed(others)}" if others else ""
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
            f"`per_layer` {path} is none of {', '.join(_SHARED)}, and no file that can be read: "
            f"{error}."
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
