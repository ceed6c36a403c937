"""Levels by tensor: the best of all combinations by brute force, and budgets that are exact."""

import itertools
import random
import re

import pytest
import torch

from chita.constraints import Flops, Megabytes, Nonzeros, Searched, Sparsity
from chita.constraints.allocation import Capacity, allocate
from chita.errors import InputError
from chita.layout import Axes, Layout, Operations

LAYOUT = Layout(
    names=("a.weight", "b.weight", "c.weight"),
    shapes=((10, 12), (3, 4), (5, 8)),
    axes=(Axes(), Axes(), Axes()),
    operations=Operations(each=(1, 9, 4), fixed=20),
)
LEVELS = {
    "a": [(0.0, 0.0), (0.5, 0.1), (0.9, 0.2)],
    "b": [(0.0, 0.0), (0.5, 4.0)],
    "c*": [(0.0, 0.0), (0.5, 0.3), (0.75, 0.6)],
}


def units(*limits):
    return [Capacity(most=limit, of="units") for limit in limits]


def best(losses, costs, limits):
    """The least sum of losses over all combinations, by looking at each."""
    found = []
    for chosen in itertools.product(*(range(len(levels)) for levels in losses)):
        used = [sum(row[at] for row, at in zip(table, chosen, strict=True)) for table in costs]
        if all(a <= b for a, b in zip(used, limits, strict=True)):
            found.append(sum(row[at] for row, at in zip(losses, chosen, strict=True)))
    return min(found, default=None)


def test_the_best_of_all_combinations(subtests):
    for seed, size in itertools.product(range(40), (30, 10**12)):
        with subtests.test(seed=seed, size=size):
            check_best(seed, size)


def check_best(seed, size):
    draw = random.Random(seed)
    tensors = [draw.randint(1, 5) for _ in range(5)]
    losses = [[draw.gauss(0, 10 ** draw.uniform(-4, 2)) for _ in range(n)] for n in tensors]
    costs = [[[draw.randrange(size) for _ in range(n)] for n in tensors] for _ in range(2)]
    limits = [int(draw.uniform(0.2, 0.7) * sum(map(max, table))) + 1 for table in costs]
    expected = best(losses, costs, limits)
    within = units(*limits)
    if expected is None:
        with pytest.raises(InputError, match=r"levels of sparsity"):
            allocate(losses, costs, within)
        return
    chosen = allocate(losses, costs, within)
    for table, limit in zip(costs, limits, strict=True):
        assert sum(row[at] for row, at in zip(table, chosen, strict=True)) <= limit
    total = sum(row[at] for row, at in zip(losses, chosen, strict=True))
    scale = max(abs(loss) for row in losses for loss in row)
    assert total == pytest.approx(expected, abs=1e-8 * scale)


def test_a_limit_holds_to_the_last_unit():
    costs = [[[10**12 + 1, 1], [10**12, 1]]]
    assert allocate([[0.0, 1.0], [0.0, 1.5]], costs, units(2 * 10**12)) == (1, 0)
    assert allocate([[0.0, 1.0], [0.0, 1.5]], costs, units(2 * 10**12 + 1)) == (0, 0)


def test_what_no_levels_allow_is_said_with_the_number_that_would_do():
    losses, costs = [[0.0, 1.0], [0.0, 3.0]], [[[4, 2], [4, 1]]]
    with pytest.raises(InputError, match=r"at least 3 units, .* allows 2\..*allow 3"):
        allocate(losses, costs, units(2))
    assert allocate(losses, costs, units(3)) == (1, 1)


def values():
    return torch.randn(LAYOUT.size, generator=torch.Generator().manual_seed(0))


def counts(mask):
    return [int(mask[at].sum()) for at in LAYOUT.segments]


def test_what_levels_leave_of_the_budget_goes_to_the_largest_weights():
    # a at 12 of 120, b whole, c at 20 of 40 take 44 of 50, at a loss of 0.5: c at 10 would cost 0.8
    # less 0.3, and a at 60 does not fit.
    budget = Searched(Nonzeros(50), levels=LEVELS)
    constraint = budget.bind(LAYOUT)
    assert constraint.least == (12, 12, 20)
    mask = constraint.select(values())
    assert constraint.allows(mask)
    assert int(mask.sum()) == 50
    assert all(a >= b for a, b in zip(counts(mask), (12, 12, 20), strict=True))
    free = values().abs()
    for at, least in zip(LAYOUT.segments, constraint.least, strict=True):
        free[at][free[at].topk(least).indices] = 0  # the floors
    assert set(free.topk(6).indices.tolist()) <= set(mask.nonzero().squeeze(1).tolist())


def test_levels_under_operations_and_weights_at_once():
    total = Flops(0.5, weights=Sparsity(0.6))
    constraint = Searched(total, levels=LEVELS).bind(LAYOUT)
    whole = 20 + 120 + 9 * 12 + 4 * 40
    assert constraint.limit == whole // 2 - 20
    # b whole takes 108 of 184 multiply-adds, so that c keeps 10 of 40 at most, which leaves 36.
    assert constraint.least == (12, 12, 10)
    mask = constraint.select(values())
    assert constraint.allows(mask)


def test_on_the_way_every_tensor_has_its_part():
    for total in (Nonzeros(50), Flops(0.5, weights=Nonzeros(90)), Flops(0.5)):
        budget = Searched(total, levels=LEVELS)
        before = (*LAYOUT.counts,)
        for removed in (0.0, 0.1, 0.25, 0.4, budget.removed(LAYOUT)):
            constraint = budget.on_the_way(removed, LAYOUT).bind(LAYOUT)
            assert constraint.allows(constraint.select(values()))
            assert all(a <= b for a, b in zip(constraint.least, before, strict=True))
            before = constraint.least
        quotas = budget.bind(LAYOUT).least
        assert before == quotas
        half = budget.on_the_way(budget.removed(LAYOUT) / 2, LAYOUT).bind(LAYOUT).least
        expected = [(q + count) // 2 for q, count in zip(quotas, LAYOUT.counts, strict=True)]
        assert list(half) == expected


def test_levels_not_yet_measured_bind_the_whole_alone():
    assert Searched(Nonzeros(50)).bind(LAYOUT).k == 50


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (lambda: Searched(Nonzeros(9), levels=LEVELS), "keep at least 28 weights"),
        (lambda: Searched(Nonzeros(50), levels={"a": []}), "a has no level"),
        (lambda: Searched(Nonzeros(50), levels={"a": [(1.0, 0.0)]}), "a: `sparsity` is 1"),
        (
            lambda: Searched(Nonzeros(50), levels={"a": [(0.1, float("nan"))]}),
            "a: the loss at sparsity 0.1 is nan",
        ),
        (
            lambda: Searched(Nonzeros(50), levels={"a": LEVELS["a"]}),
            "no level is given for b.weight, c.weight",
        ),
    ],
)
def test_refusals(budget, message):
    with pytest.raises(InputError, match=re.escape(message)):
        budget().bind(LAYOUT)


def test_bytes_are_values_and_a_bit_for_each_place():
    layout = Layout(names=("a", "b"), shapes=((9,), (16,)), axes=(Axes(), Axes()))
    fixed = 2 + 2  # bytes of bits
    assert Megabytes((fixed + 4 * 7) / 1e6).kept(layout) == 7
    assert Megabytes((fixed + 4 * 7 - 1) / 1e6).kept(layout) == 6
    assert Megabytes(1).kept(layout) == 25
    half = Layout(names=("a", "b"), shapes=((9,), (16,)), axes=(Axes(), Axes()), width=2)
    assert Megabytes((fixed + 4 * 7) / 1e6).kept(half) == 14


def test_too_few_bytes_are_refused_with_the_number_that_would_do():
    for floor in (0, 1, 30):
        with pytest.raises(InputError, match="Give at least") as raised:
            Megabytes(1e-6, min_keep=floor).bind(LAYOUT)
        least = float(str(raised.value).rpartition("at least ")[2].rstrip("."))
        assert Megabytes(least, min_keep=floor).bind(LAYOUT).k >= 1
        with pytest.raises(InputError, match="Give at least"):
            Megabytes(least - 1e-6, min_keep=floor).bind(LAYOUT)
    with pytest.raises(InputError, match="above 0"):
        Megabytes(0)
