"""Masks stored beside weights, and buffers of networks that only look like them."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune as torch_prune

import chita
from chita.masks.fit import read_masks
from chita.models.checkpoint import load_weights


class Causal(nn.Linear):
    """A layer with a fixed mask of its own, kept or removed by its ones."""

    def __init__(self, inputs, outputs, *, ones_keep=True):
        super().__init__(inputs, outputs)
        order = torch.arange(outputs)[:, None] % inputs >= torch.arange(inputs)
        self.register_buffer("weight_mask", order.float() if ones_keep else 1.0 - order.float())

    def forward(self, x):
        return functional.linear(x, self.weight * self.weight_mask, self.bias)


class Gated(nn.Linear):
    """Tensors of its own, named as those of torch.nn.utils.prune."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.gate_orig = nn.Parameter(torch.randn(outputs))
        self.register_buffer("gate_mask", torch.ones(outputs))


NETWORKS = {
    "ones keep": lambda: Causal(6, 8),
    "ones remove": lambda: Causal(6, 8, ones_keep=False),
    "gates": lambda: Gated(6, 8),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("prefix", ["", "net."])
def test_own_buffers_are_no_masks(tmp_path, kind, prefix):
    model = nn.Sequential(NETWORKS[kind](), nn.Linear(8, 3))
    result = chita.prune(model, solver="magnitude", sparsity=0.6)
    state = {f"{prefix}{name}": t for name, t in result.model.state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    found = chita.Enforcer(model, tmp_path / "w.pt").masks
    assert found.keys() == result.masks.keys()
    assert all(torch.equal(found[name], mask) for name, mask in result.masks.items())
    load_weights(model, state)
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in result.model.state_dict().items())


def test_masks_beside_weights_are_added_to_the_zeros(tmp_path):
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    result = chita.prune(model, solver="magnitude", sparsity=0.6)
    more = torch.ones(8, 6)
    more[0] = 0
    torch.save({**result.model.state_dict(), "0.weight_mask": more}, tmp_path / "w.pt")
    found = read_masks(tmp_path / "w.pt", model)
    assert torch.equal(found["0.weight"], result.masks["0.weight"] & more.bool())
    assert torch.equal(found["1.weight"], result.masks["1.weight"])


@pytest.mark.parametrize("prefix", ["", "net."])
def test_a_part_in_the_form_of_torch_prune_and_a_part_of_zeros(tmp_path, prefix):
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3))
    form = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3))
    torch_prune.l1_unstructured(form[0], "weight", 0.5)
    with torch.no_grad():
        form[0].weight_orig[0] = 0  # kept, whatever its value
        form[1].weight[:, 0] = 0
    torch.save({f"{prefix}{n}": t for n, t in form.state_dict().items()}, tmp_path / "w.pt")
    found = read_masks(tmp_path / "w.pt", model)
    assert found.keys() == {"0.weight", "1.weight"}  # the dense one is left untouched
    assert torch.equal(found["0.weight"], form[0].weight_mask.bool())
    assert torch.equal(found["1.weight"], form[1].weight != 0)
