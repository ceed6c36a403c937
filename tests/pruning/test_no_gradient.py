"""Weights without a gradient: frozen ones are left out, those that no loss reaches are named."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import chita
from chita.masks.fit import read_masks
from chita.models.prunable import prunable_layout
from chita.models.targets import FROZEN, decide


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5)
    )


DATA = torch.randn(60, 8, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 5
FEW = chita.Fisher(samples=40)


def half_frozen():
    net = network()
    net[0].requires_grad_(False)
    return net


@pytest.mark.parametrize("solver", ["chita", "magnitude", "alps"])
def test_frozen_weights_are_left_out_and_it_is_said(solver):
    net = half_frozen()
    result = chita.prune(net, DATA, sparsity=0.5, solver=solver, fisher=FEW)
    assert result.masks.keys() == {"2.weight", "4.weight"}
    assert torch.equal(result.model[0].weight, net[0].weight)
    (line,) = result.record.notes
    assert "not pruned: 0.weight, which require no gradient and hold 33.68%" in line
    assert line in repr(result)
    rules = {tensor.name: tensor.rule for tensor in chita.plan(net, DATA, fisher=FEW).tensors}
    assert rules["0.weight"] == FROZEN


@pytest.mark.parametrize("targets", ["0.weight", "0", "Linear", "re:[024]"])
def test_targets_reach_frozen_weights(targets):
    result = chita.prune(half_frozen(), sparsity=0.5, solver="magnitude", targets=targets)
    assert "0.weight" in result.masks
    assert not result.record.notes


def test_where_all_are_frozen_all_are_pruned_as_ever_and_it_is_said():
    net = network()
    trained = chita.prune(net, DATA, sparsity=0.5, fisher=FEW)
    frozen = chita.prune(network().requires_grad_(False), DATA, sparsity=0.5, fisher=FEW)
    assert not trained.record.notes
    assert frozen.record.notes == (
        "no weight of a layer requires a gradient, so all of them are pruned",
    )
    for name, mask in trained.masks.items():
        assert torch.equal(mask, frozen.masks[name])
        assert torch.equal(trained.model.get_parameter(name), frozen.model.get_parameter(name))


def test_frozen_weights_that_are_ignored_leave_the_others():
    net = network().requires_grad_(False)
    net[4].requires_grad_(True)
    assert prunable_layout(net, ignore="4").names == ("0.weight", "2.weight")
    assert prunable_layout(net).names == ("4.weight",)


def test_a_frozen_weight_whose_bias_is_trained():
    net = network()
    net[0].weight.requires_grad_(False)  # its bias is trained: the weight is frozen all the same
    assert prunable_layout(net).names == ("2.weight", "4.weight")


def test_zeros_of_frozen_weights_are_masks_all_the_same(tmp_path):
    net = chita.prune(network(), sparsity=0.5, solver="magnitude").model
    net[0].requires_grad_(False)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    assert read_masks(tmp_path / "net.pt", net).keys() == {"0.weight", "2.weight", "4.weight"}
    assert all(decision.pruned for decision in decide(net) if decision.role.weight)


class Parts(nn.Module):
    """Of its parts one is not used, or one lies in a checkpoint that cuts its gradients off."""

    def __init__(self, how):
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.body, self.side, self.head = nn.Linear(8, 12), nn.Linear(8, 12), nn.Linear(12, 5)

    def forward(self, x):
        if self.how == "unused":
            return self.head(self.body(x).relu())
        if self.how == "times zero":
            return self.head((self.body(x) + 0 * self.side(x)).relu())
        if self.how == "detached":
            return self.head((self.body(x) + self.side(x).detach()).relu())
        side = checkpoint(self.side, x, use_reentrant=self.how == "reentrant")
        return self.head((self.body(x) + side).relu())


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize("how", ["unused", "times zero", "detached", "reentrant"])
def test_tensors_that_the_loss_does_not_reach_are_named(how, stages):
    with pytest.warns(UserWarning, match=r"gradients of side\.weight are all zero") as told:
        chita.prune(
            Parts(how),
            DATA,
            sparsity=0.5,
            fisher=FEW,
            stages=stages,
            quadratic=chita.Quadratic(ridge=0.1, first_order=1, step_size=1),
        )
    assert sum("all zero" in str(warning.message) for warning in told) == 1


def test_nothing_is_said_where_every_tensor_has_a_gradient():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chita.prune(Parts("plain checkpoint"), DATA, sparsity=0.9, fisher=FEW, stages=3)
