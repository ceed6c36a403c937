"""Without regrowth, weights that are zero before the first stage stay removed."""

import copy

import pytest
import torch
from torch import nn

import chita
from chita.errors import InputError

TRAINED = {"first_order": 1, "ridge": 0.01, "step_size": 1}
BUDGETS = {
    "sparsity": chita.Sparsity(0.8),
    "2:4": "2:4",
    "outputs": chita.PerOutput(0.75),
    "per layer": chita.PerLayer(0.8),
}


def network(share=0.6, pattern=None):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 8))
    if share:
        removed = chita.prune(
            net, solver=chita.solvers.baselines.Random(), budget=pattern or chita.Sparsity(share)
        )
        net = removed.model
    return net


def data():
    generator = torch.Generator().manual_seed(1)
    return 2 * torch.randn(120, 16, generator=generator), torch.arange(120) % 8


def pruned(net, budget, *, regrow=False, stages=3, solver="chita", **options):
    return chita.prune(
        net,
        data(),
        budget=budget,
        solver=solver,
        stages=chita.Stages(stages, regrow=regrow),
        fisher=chita.Fisher(samples=60),
        quadratic=chita.Quadratic(**TRAINED),
        **options,
    )


def returned(before, result):
    """How many weights that were zero are not any more."""
    pairs = ((before.get_parameter(n), result.model.get_parameter(n)) for n in result.masks)
    return sum(int(((old == 0) & (new != 0)).sum()) for old, new in pairs)


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize("solver", ["chita", "iht", "bso", "cd"])
def test_zeros_of_before_stay_zero_and_the_count_is_exact(solver, stages):
    net = network()
    result = pruned(net, chita.Sparsity(0.8), stages=stages, solver=solver)
    assert returned(net, result) == 0
    assert result.record.nnz == int(0.2 * (16 * 24 + 24 * 8) + 1e-9)
    assert returned(net, pruned(net, chita.Sparsity(0.8), stages=stages, regrow=True)) > 0


@pytest.mark.parametrize("name", BUDGETS)
def test_under_every_kind_of_budget_as_far_as_it_can_be_met(name):
    budget = BUDGETS[name]
    net = network(0.5, pattern="2:4" if name == "2:4" else None)
    result = pruned(net, budget)
    assert returned(net, pruned(net, budget, regrow=True)) > returned(net, result)
    before = {n: net.get_parameter(n) != 0 for n in result.masks}
    if name in ("sparsity", "per layer", "2:4"):  # which the other weights can meet
        assert returned(net, result) == 0
    for n, mask in result.masks.items():
        kept = mask if name != "2:4" else mask.unflatten(1, (-1, 4))
        if name == "2:4":
            assert bool((kept.sum(-1) == 2).all())
        if name == "outputs":  # a row takes zeros back only where it has too few others
            need = mask.shape[1] // 4
            assert bool((mask.sum(1) == need).all())
            back = (mask & ~before[n]).sum(1)
            assert torch.equal(back, (need - before[n].sum(1)).clamp_min(0))


def test_blocks_are_kept_whole():
    net = network(0.6, pattern="4x1 & sparsity=0.6")
    few = copy.deepcopy(net)
    with torch.no_grad():
        few[0].weight[::4] = 0  # a block is kept while one of its weights is not zero
        net[0].weight[::4] *= 1e-12
    budget, back = "4x1 & sparsity=0.7", {}
    for n, mask in pruned(few, budget).masks.items():
        assert torch.equal(mask, pruned(net, budget).masks[n])
    for regrow in (False, True):
        result, back[regrow] = pruned(net, budget, regrow=regrow), 0
        for n, mask in result.masks.items():
            whole = mask.unflatten(0, (-1, 4)).sum(1)
            assert set(whole.flatten().tolist()) == {0, 4}
            empty = ~(net.get_parameter(n) != 0).unflatten(0, (-1, 4)).any(1)
            back[regrow] += int(whole[empty].sum())
    assert back[False] == 0 < back[True]


def test_a_budget_that_keeps_more_than_is_there_takes_no_more_than_it_needs():
    net = network(0.8)
    result = pruned(net, chita.Sparsity(0.5))
    assert result.record.nnz == (16 * 24 + 24 * 8) // 2
    for n, mask in result.masks.items():
        assert bool(mask[net.get_parameter(n) != 0].all())  # nothing that is there is removed


def test_with_pilot_runs_and_between_epochs():
    net = network()
    options = {"budget": chita.Sparsity(0.8), "fisher": chita.Fisher(samples=60)}
    stages = chita.Stages(4, regrow=False)
    assert returned(net, chita.prune(net, data(), stages=stages, **options)) == 0
    training = chita.Training(epochs=3, events=2, rate=0.1)
    trained = chita.prune(
        net,
        data(),
        stages=chita.Stages(2, regrow=False),
        training=training,
        quadratic=chita.Quadratic(**TRAINED),
        **options,
    )
    assert returned(net, trained) == 0


def test_a_schedule_begins_at_the_zeros_that_are_there():
    """From 60 to 80 % in halves of what is left, so that every stage removes something."""
    result = pruned(network(), chita.Sparsity(0.8))
    kept = [stage.nnz for stage in result.record.stages]
    shares = [0.6 + 0.2 * (1 - 2**-t) / (1 - 2**-3) for t in (1, 2, 3)]
    assert kept == [int((1 - share) * 576 + 1e-6) for share in shares]
    again = pruned(network(), chita.Sparsity(0.8), regrow=True)
    assert again.record.stages[0].nnz > 0.4 * 576


def test_a_network_without_zeros_is_pruned_as_ever():
    """The first stage may keep all weights, so that only those that stages remove are out."""
    net = network(0)
    result = pruned(net, chita.Sparsity(0.8), stages=1)
    other = pruned(net, chita.Sparsity(0.8), stages=1, regrow=True)
    for name, mask in result.masks.items():
        assert torch.equal(mask, other.masks[name])
        assert torch.equal(result.model.get_parameter(name), other.model.get_parameter(name))


def test_layer_by_layer_it_has_no_part_and_is_refused():
    with pytest.raises(InputError, match="takes no `regrow`"):
        chita.prune(
            network(), data(), solver="alps", sparsity=0.8, stages=chita.Stages(regrow=False)
        )
