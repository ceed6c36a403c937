"""Sparse linear layers: what they compute, and when they are chosen."""

import pytest
import torch
from torch import nn

from chita.runtimes import csr
from chita.runtimes.csr import CSR, DENSE, Choice, SparseLinear, choose, in_forms, use_sparse
from chita.runtimes.inputs import inputs_of, reference
from chita.runtimes.timing import Timing
from tests.runtimes.networks import perceptron, zeroed


def told(seconds):
    return Timing(median=seconds, low=seconds, high=seconds, count=9)


def clocked(monkeypatch, layer, network=0.5):
    """Let sparse layers take these shares of the dense time, and the network as a whole one."""

    def measured(runs, seconds=0):
        shares = {DENSE: 1.0, **layer, "sparse": network}
        return {name: told(shares[name]) for name in runs}

    monkeypatch.setattr(csr, "side_by_side", measured)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("form", [CSR, "bsr-4x4", "bsr-16x16"])
@pytest.mark.parametrize("shape", [(32,), (1, 32), (5, 32), (2, 3, 32)])
def test_a_sparse_layer_gives_what_the_dense_one_does(bias, dtype, form, shape):
    network = nn.Sequential(nn.Linear(32, 48, bias=bias, dtype=dtype))
    weight = network[0].weight.detach()
    weight.view(12, 4, 8, 4)[torch.rand(12, 1, 8, 1).expand(12, 4, 8, 4) < 0.8] = 0
    found = in_forms(network, (Choice(layer="0", form=form, seconds={}),))
    given = torch.randn(shape, dtype=dtype)
    assert type(found[0]) is SparseLinear
    with torch.no_grad():
        assert torch.allclose(found(given), network(given), atol=1e-6)
    assert type(network[0]) is nn.Linear


def test_use_sparse_changes_sparse_layers_alone():
    network = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    network[1].weight = nn.Parameter(
        network[1].weight.detach().to_sparse_csr(), requires_grad=False
    )
    given = torch.randn(3, 8)
    with torch.no_grad():
        expected = network(given)
        assert use_sparse(network) is network
        assert torch.allclose(network(given), expected, atol=1e-6)
    assert [type(layer) for layer in network] == [nn.Linear, SparseLinear]


def test_the_fastest_form_is_taken(monkeypatch):
    clocked(monkeypatch, {CSR: 0.4, "bsr-4x4": 0.3, "bsr-16x16": 0.5})
    blocks = zeroed(nn.Sequential(nn.Linear(32, 32)), 0)
    blocks[0].weight.detach()[:16] = 0
    (choice,) = choose(blocks, inputs_of(torch.randn(2, 32)))
    assert choice.form == "bsr-4x4"
    assert choice.seconds == {DENSE: 1.0, CSR: 0.4, "bsr-4x4": 0.3, "bsr-16x16": 0.5}


def test_a_form_that_hardly_gains_is_not_taken(monkeypatch):
    network, inputs = perceptron(), inputs_of(torch.randn(2, 64))
    clocked(monkeypatch, {CSR: 0.91, "bsr-4x4": 1.0, "bsr-16x16": 1.0})
    assert {choice.form for choice in choose(network, inputs)} == {DENSE}
    clocked(monkeypatch, {CSR: 0.89, "bsr-4x4": 1.0, "bsr-16x16": 1.0})
    assert {choice.form for choice in choose(network, inputs)} == {CSR}


def test_nothing_is_taken_where_the_whole_is_not_faster(monkeypatch):
    network, inputs = perceptron(), inputs_of(torch.randn(2, 64))
    clocked(monkeypatch, {CSR: 0.5, "bsr-4x4": 1.0, "bsr-16x16": 1.0}, network=1.0)
    assert {choice.form for choice in choose(network, inputs)} == {DENSE}


def test_layers_that_cannot_gain_are_not_tried():
    full = nn.Sequential(nn.Linear(16, 16))
    half = zeroed(nn.Sequential(nn.Linear(16, 16))).bfloat16()
    assert choose(full, inputs_of(torch.randn(1, 16)))[0].seconds == {}
    assert choose(half, inputs_of(torch.randn(1, 16).bfloat16()))[0].seconds == {}


def test_what_follows_may_take_the_outputs_as_they_lie(monkeypatch):
    class Viewing(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = zeroed(nn.Linear(16, 16))

        def forward(self, x):
            return self.layer(x).view(-1)

    network = in_forms(Viewing(), (Choice(layer="layer", form=CSR, seconds={}),))
    with torch.no_grad():
        assert network(torch.randn(4, 16)).shape == (64,)


def test_a_layer_called_by_keyword_is_passed_over():
    class ByName(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = zeroed(nn.Linear(16, 16))

        def forward(self, x):
            return self.layer(input=x)

    assert choose(ByName(), inputs_of(torch.randn(2, 16))) == ()


def test_a_layer_that_is_fused_stays_dense(monkeypatch):
    """Hooks hide that an encoder layer reads its weights itself."""
    clocked(monkeypatch, dict.fromkeys((CSR, "bsr-4x4", "bsr-16x16"), 0.5))
    network = zeroed(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True))
    found = choose(network, inputs_of(torch.randn(2, 5, 16)))
    assert {choice.form for choice in found} == {DENSE}


def test_tied_weights_stay_dense(monkeypatch):
    clocked(monkeypatch, {CSR: 0.5, "bsr-4x4": 1.0, "bsr-16x16": 1.0})
    network = perceptron()
    network[2].weight = network[0].weight
    found = choose(network, inputs_of(torch.randn(2, 64)))
    assert [choice.layer for choice in found] == ["4"]


def test_a_network_that_reads_its_weights_itself_stays_dense(monkeypatch):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = zeroed(nn.Linear(16, 16))

        def forward(self, x):
            return self.layer(x) + self.layer.weight.view(-1)[0]

    clocked(monkeypatch, {CSR: 0.5, "bsr-4x4": 1.0, "bsr-16x16": 1.0})
    network, inputs = Reader(), inputs_of(torch.randn(2, 16))
    expected = reference(network, inputs)
    assert {choice.form for choice in choose(network, inputs)} == {DENSE}
    assert torch.equal(reference(network, inputs)["output"], expected["output"])
