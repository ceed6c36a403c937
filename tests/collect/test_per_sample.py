"""Rows of batches in which not all values of samples are in tensors, and of objects of users."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import chita
from chita.collect.separate import LossModule, by_loop, by_vmap
from chita.data.batches import read
from chita.data.examples import Examples
from chita.errors import InputError
from chita.losses import make_loss
from chita.models.prunable import prunable_layout
from tests.collect.rows import rows_of

X, Y, W = torch.randn(24, 6), torch.arange(24) % 3, np.arange(24.0) ** 2
KINDS = {
    "array": lambda w: w,
    "list": list,
    "tuple": tuple,
    "texts": lambda w: [str(v) for v in w],
    "column": lambda w: [[v] for v in w],
}


def weighted(model, batch):
    given = [float(v[0] if isinstance(v, list) else v) for v in batch["w"]]
    terms = cross_entropy(model(batch["x"]), batch["y"], reduction="none")
    return (terms * torch.tensor(given)).mean()


def batches(kind, size=4, values=W):
    return [
        {"x": X[i : i + size], "y": Y[i : i + size], "w": kind(values[i : i + size])}
        for i in range(0, 24, size)
    ]


def rows_by_autograd(network):
    found = []
    for x, y, w in zip(X, Y, W, strict=True):
        loss = cross_entropy(network(x[None]), y[None]) * w
        found.append(torch.autograd.grad(loss, network.weight)[0].flatten())
    return torch.stack(found).float()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [4, 5])  # of 5 the last batch has one sample fewer
def test_values_in_no_tensor_are_cut_with_their_samples(kind, size):
    network, data = nn.Linear(6, 3), batches(KINDS[kind], size)
    layout = prunable_layout(network)
    rows = rows_of(network, layout, Examples(*read(data)), loss=make_loss(weighted, data[0]))
    found = rows.gather(torch.arange(layout.size))
    found = found if found.shape == (24, 18) else found.T
    torch.testing.assert_close(found, rows_by_autograd(network), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("used", [True, False])
def test_values_in_no_tensor_are_hidden_from_functions_over_rows(used):
    def loss(model, batch):
        known = used and isinstance(batch["w"], list)
        return cross_entropy(model(batch["x"]), batch["y"]) * (2 if known else 1)

    network, data = nn.Linear(6, 3), batches(list)
    module = LossModule(network, make_loss(loss, data[0]))
    given = {"weight": network.weight}, 1, Examples(*read(data)).batch
    if used:
        with pytest.raises(TypeError, match=r"over tensors only"):
            by_vmap(module, *given)
    else:
        found, expected = by_vmap(module, *given)[0], by_loop(module, *given)[0]
        torch.testing.assert_close(found, expected)


def test_numbers_that_may_belong_to_a_batch_are_refused():
    same = np.arange(4.0)
    for kind in (np.array, list):
        with pytest.raises(InputError, match=r"\['w'\] of a batch, \w+, holds 4 values.*tensor"):
            Examples(*batches(lambda _, kind=kind: kind(same)))


class Graph:
    def __init__(self, x, y):
        self.x, self.y = x, y


class Network(nn.Module):
    """Writes into the object that it is given, as networks of graphs do."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, graph):
        graph.x = graph.x + torch.relu(self.a(graph.x))
        graph.x.mul_(2)
        return self.b(graph.x)


def graphs():
    return [Graph(X[i : i + 4].clone(), Y[i : i + 4]) for i in range(0, 24, 4)]


def graph_loss(model, graph):
    return cross_entropy(model(graph), graph.y)


def test_an_object_that_a_network_writes_into_is_as_new_at_each_pass():
    network, given = Network(), graphs()
    with torch.no_grad():
        expected = sum(float(graph_loss(network, graph)) for graph in graphs()) / 6
    for _ in range(2):
        assert chita.evaluate(network, given, loss=graph_loss).value == pytest.approx(expected)
    assert torch.equal(torch.cat([graph.x for graph in given]), X)


def test_layer_by_layer_prunes_a_network_that_writes_into_its_batches():
    network, fisher = Network(), chita.Fisher(samples=6)
    result = chita.prune(network, graphs(), sparsity=0.5, solver="alps", loss=graph_loss,
                         fisher=fisher, validation=0)  # fmt: skip
    assert [layer.solved.skipped for layer in result.record.layers] == [None, None]
