"""Weights and FLOPs at once: beside an integer programme, and on networks."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import nn

import chita
from chita.constraints import Flops, Nonzeros, Sparsity
from chita.data.digits import digits
from chita.errors import InputError
from chita.layout import Axes, Layout, Operations
from chita.solvers import IHT


def layout_of(counts, costs, fixed=0):
    return Layout(
        names=tuple(f"t{i}" for i in range(len(counts))),
        shapes=tuple((c,) for c in counts),
        axes=(Axes(),) * len(counts),
        operations=Operations(each=tuple(costs), fixed=fixed),
    )


LAYERS = layout_of((432, 2304, 2304, 4608, 640), (1024, 1024, 256, 64, 1))


def drawn(kind, size, seed=0):
    v = torch.randn(size, generator=torch.Generator().manual_seed(seed))
    if kind == "ties":
        return (v * 2).round()
    if kind == "mostly zero":
        return torch.where(v.abs() > 1.5, v, 0)
    if kind == "scaled":
        return v * torch.logspace(-12, 12, size)
    return v


def best(values, constraint, *, integer):
    """What the sum of no mask exceeds, by HiGHS: the integer programme, or its relaxation."""
    scores = values.double().square().numpy()
    costs = np.concatenate([
        np.full(s.stop - s.start, c)
        for c, s in zip(constraint.costs, constraint.segments, strict=True)
    ])
    limits = [LinearConstraint(np.ones((1, len(scores))), ub=constraint.k)]
    limits += [LinearConstraint(costs[None], ub=constraint.limit)]
    found = milp(
        -scores / scores.max(),
        constraints=limits,
        bounds=Bounds(0, 1),
        integrality=np.full(len(scores), int(integer)),
        options={  # what comes before the relaxation takes ten times as long as it does
            "mip_rel_gap": 1e-9 if len(scores) < 1000 else 1e-4,
            "presolve": integer,
        },
    )
    assert found.status == 0
    return -found.fun * scores.max()


SHARES = [(0.5, None), (0.3, 0.6), (0.2, 0.9), (0.9, 0.5)]


@pytest.mark.parametrize("kind", ["normal", "ties", "mostly zero"])
@pytest.mark.parametrize(("share", "sparsity"), SHARES)
def test_beside_the_relaxed_programme(kind, share, sparsity):
    """Ten thousand weights: the relaxation, which is above the integer optimum."""
    constraint, values, found = chosen(LAYERS, kind, share, sparsity)
    relaxed = best(values, constraint, integer=False)
    assert relaxed * (1 - 1e-3) <= found <= relaxed * (1 + 1e-6)
    ceiling = constraint.ceiling(values, constraint.select(values))
    assert ceiling == pytest.approx(relaxed, rel=1e-5)


@pytest.mark.parametrize("kind", ["normal", "ties", "mostly zero"])
@pytest.mark.parametrize(("share", "sparsity"), SHARES)
def test_few_weights_beside_the_integer_programme(kind, share, sparsity):
    few = layout_of((16, 60, 100, 24), (64, 64, 16, 1))
    constraint, values, found = chosen(few, kind, share, sparsity)
    optimum = best(values, constraint, integer=True)
    assert optimum * (1 - 0.03) <= found <= optimum * (1 + 1e-9)
    ceiling = constraint.ceiling(values, constraint.select(values))
    assert ceiling >= optimum * (1 - 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "sparsity"), SHARES[:2])
def test_many_weights_beside_the_integer_programme(share, sparsity):
    constraint, values, found = chosen(LAYERS, "normal", share, sparsity)
    optimum = best(values, constraint, integer=True)
    assert optimum * (1 - 1e-3) <= found <= optimum * (1 + 1e-4)


def chosen(layout, kind, share, sparsity):
    """A constraint, values, and the sum over the mask that it selects."""
    weights = None if sparsity is None else Sparsity(sparsity)
    constraint = Flops(share, weights=weights, min_keep=0).bind(layout)
    values = drawn(kind, layout.size)
    mask = constraint.select(values)
    assert constraint.allows(mask)
    return constraint, values, float(values[mask].double().square().sum())


@pytest.mark.parametrize("misled", [0, 100, 0.01])
@pytest.mark.parametrize("sparsity", [None, 0.6])
def test_many_weights_are_sampled_first(monkeypatch, misled, sparsity):
    weights = None if sparsity is None else Sparsity(sparsity)
    constraint = Flops(0.3, weights=weights).bind(LAYERS)
    values = drawn("normal", LAYERS.size)
    if misled:  # a sample that is not like the rest
        values[:: LAYERS.size // 50] *= misled
        values[:: LAYERS.size // 1000] *= misled
    at_once = constraint.select(values)
    for sample in (50, 1000):
        monkeypatch.setattr("chita.constraints.knapsack._SAMPLE", sample)
        sampled = constraint.select(values)
        assert constraint.allows(sampled)
        assert int((sampled != at_once).sum()) <= 4


@pytest.mark.parametrize("kind", ["normal", "ties", "mostly zero", "scaled"])
@pytest.mark.parametrize("min_keep", [0, 1, 40])
def test_both_budgets_hold_and_nothing_more_fits(kind, min_keep):
    for share, nnz in ((0.1, 3000), (0.5, 20000), (0.05, 800), (1, 10288), (0.9999, 10287)):
        budget = Flops(share, weights=Nonzeros(min(nnz, LAYERS.size)), min_keep=min_keep)
        constraint = budget.bind(LAYERS)
        mask = constraint.select(drawn(kind, LAYERS.size))
        kept = [int(mask[s].sum()) for s in LAYERS.segments]
        used = sum(c * k for c, k in zip(LAYERS.operations.each, kept, strict=True))
        whole = sum(c * k for c, k in zip(LAYERS.operations.each, LAYERS.counts, strict=True))
        assert sum(kept) <= nnz
        assert used <= share * whole
        assert min(kept) >= min_keep
        if sum(kept) < nnz:
            spare = share * whole - used
            for cost, count, size in zip(LAYERS.operations.each, kept, LAYERS.counts, strict=True):
                assert count == size or cost > spare


@pytest.mark.parametrize("kind", ["normal", "ties", "mostly zero"])
def test_where_the_count_binds_no_exchange_of_two_weights_gains(kind):
    traded = 0
    for share, sparsity in ((0.3, 0.6), (0.5, 0.55), (0.2, 0.8), (0.4, 0.7), (0.15, 0.7)):
        constraint, values, _ = chosen(LAYERS, kind, share, sparsity)
        mask = constraint.select(values)
        if int(mask.sum()) < constraint.k:
            continue
        spare = constraint.limit - constraint.cost(mask)
        scores = values.square()
        for out, dear in zip(LAYERS.segments, constraint.costs, strict=True):
            for enter, cost in zip(LAYERS.segments, constraint.costs, strict=True):
                least = scores[out][mask[out]].min() if mask[out].any() else torch.inf
                most = scores[enter][~mask[enter]].max() if not mask[enter].all() else -torch.inf
                assert not (most > least and cost - dear <= spare)
        traded += 1
    assert traded


def test_only_the_count_binds_where_flops_are_ample():
    values = drawn("normal", LAYERS.size)
    few = Flops(1, weights=Nonzeros(100), min_keep=0).bind(LAYERS)
    assert torch.equal(few.select(values), Nonzeros(100, min_keep=0).bind(LAYERS).select(values))
    assert int(Flops(1).bind(LAYERS).select(values).sum()) == LAYERS.size


def test_a_free_layer_is_kept_whole():
    layout = layout_of((4, 6), (3, 0))
    mask = Flops(0.5).bind(layout).select(torch.randn(10))
    assert (int(mask[:4].sum()), int(mask[4:].sum())) == (2, 6)


def test_the_share_is_of_the_whole_network_and_what_cannot_be_met_is_told():
    layout = layout_of((10, 10), (4, 1), fixed=50)
    assert Flops(0.75).bind(layout).limit == 25
    with pytest.raises(
        InputError,
        match=r"allows 100 FLOPs of 200, but what is not pruned takes "
        r"100 and the 2 weights that `min_keep` keeps 10. Ask for at least 0.5501",
    ):
        Flops(0.5).bind(layout)
    assert Flops(0.5501).bind(layout).limit == 5
    with pytest.raises(InputError, match="needs a sample"):
        Flops(0.5).bind(Layout(names=("a",), shapes=((2,),), axes=(Axes(),)))
    for share in (0, -1, 1.1, "half", True, float("nan")):
        with pytest.raises(InputError, match="Share of the dense FLOPs"):
            Flops(share)
    with pytest.raises(InputError, match="4 at least over 2 tensors"):
        Flops(0.9, weights=Nonzeros(3), min_keep=2).bind(layout)


def test_stages_go_down_both_budgets_together():
    budget = Flops(0.2, weights=Sparsity(0.8))
    half = budget.on_the_way(0.4, LAYERS)
    assert half.weights == Sparsity(0.4)
    assert half.share == pytest.approx(
        0.6, abs=1e-3
    )  # of 10,288 weights a fifth is no whole number
    assert Flops(0.2).on_the_way(0.4, LAYERS) == Flops(0.6)
    assert Flops(0.2).removed(LAYERS) == pytest.approx(0.8)


SOLVED = ["chita", IHT(max_iterations=10), "bso", "magnitude"]
IN_STAGES = [chita.Stages(number, regrow=regrow) for number in (1, 3) for regrow in (True, False)]


def test_solvers_prune_to_both_budgets(subtests):
    model = nn.Sequential(
        *(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1)),
        *(nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)),
    )
    positions = {"0.weight": 64, "2.weight": 16, "5.weight": 1}
    for turn, solver in enumerate(SOLVED):
        for stages in (IN_STAGES[turn % 4], IN_STAGES[(turn + 2) % 4]):  # at once, and in three
            with subtests.test(solver=solver, stages=stages):
                check_both_budgets(model, positions, solver, stages)


@pytest.mark.slow
def test_solvers_prune_a_trained_network_to_both_budgets(subtests):
    positions = {"conv1.weight": 64, "conv2.weight": 16, "conv3.weight": 16, "fc.weight": 1}
    for solver, stages in product(SOLVED, IN_STAGES):
        with subtests.test(solver=solver, stages=stages):
            check_both_budgets(chita.load_model("digits-cnn"), positions, solver, stages)


def check_both_budgets(model, positions, solver, stages):
    """Both hold in the record, and its FLOPs are those of the masks by hand."""
    result = chita.prune(
        model,
        digits()[0],
        budget=Flops(0.3) & Sparsity(0.6),
        solver=solver,
        stages=stages,
        fisher=chita.Fisher(samples=60),
        quadratic=chita.Quadratic(ridge=0.1, first_order=1, step_size=1),
    )
    record = result.record
    assert record.flops <= 0.3 * record.dense_flops
    assert record.nnz <= 0.4 * record.prunable
    used = sum(positions[name] * int(mask.sum()) for name, mask in result.masks.items())
    assert record.flops == 2 * used
    assert [stage.nnz for stage in record.stages][-1] == record.nnz
