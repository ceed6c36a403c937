"""Weights that are held in several ways: every use counts, and the network stays as it is."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import chita
from chita.collect.separate import LossModule, by_vmap
from chita.data.examples import Examples
from chita.losses import make_loss
from chita.models.prunable import prunable_layout
from tests.collect.rows import rows_of

X, Y = torch.randn(20, 6, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3


class Twice(nn.Module):
    """A module with two names, whose weight has a third one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.head = nn.Linear(6, 6), nn.Linear(6, 3)
        self.b, self.w = self.a, self.a.weight
        self.register_buffer("scale", torch.full((6,), 0.5))
        self.register_buffer("same", self.scale)

    def forward(self, x):
        return self.head(torch.tanh(self.b(torch.tanh(self.a(x))) @ self.w) * self.same)


class Listed(Twice):
    """Its weight is used from a list, too, where functions of PyTorch do not replace it."""

    def __init__(self):
        super().__init__()
        self.weights = [self.a.weight]

    def forward(self, x):
        return self.head(torch.tanh(self.a(x) + 3 * x @ self.weights[0]))


def gradients(model):
    found = []
    for x, y in zip(X, Y, strict=True):
        loss = cross_entropy(model(x[None]), y[None])
        parts = torch.autograd.grad(loss, [model.a.weight, model.head.weight])
        found.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(found)


@pytest.mark.parametrize("kind", [Twice, Listed])
def test_rows_hold_every_use_and_all_is_given_back(kind):
    model = kind()
    before = [(m, dict(m._parameters), dict(m._buffers)) for m in model.modules()]
    layout = prunable_layout(model, ["a.weight", "head.weight"])
    rows = rows_of(model, layout, Examples((X, Y)), loss=make_loss(None, (X, Y)))
    found = rows.gather(torch.arange(layout.size)).T
    torch.testing.assert_close(found, gradients(model), rtol=1e-4, atol=1e-5)
    few = chita.Fisher(samples=10)
    result = chita.prune(model, (X, Y), sparsity=0.5, fisher=few, inplace=True)
    for module, parameters, buffers in before:
        assert all(module._parameters[name] is own for name, own in parameters.items())
        assert all(module._buffers[name] is own for name, own in buffers.items())
    assert not model.w[~result.masks["a.weight"]].any()


def test_what_was_replaced_is_given_back_after_a_failure():
    class Failing(Twice):
        def forward(self, x):
            raise KeyError(type(self.w))

    model = Failing()
    module = LossModule(model, make_loss(None, (X, Y)))
    with pytest.raises(KeyError, match="Tensor"):
        by_vmap(module, {"a.weight": model.a.weight}, 1, (X, Y))
    assert model.w is model.a.weight
    assert isinstance(model.b.weight, nn.Parameter)
