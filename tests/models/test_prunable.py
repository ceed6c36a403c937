import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from chita.errors import InputError
from chita.models.prunable import prunable_layout, read_weights, write_weights
from tests.networks import LanguageModel


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4)
        self.conv = nn.Conv1d(4, 6, 3, groups=2)
        self.norm = nn.LayerNorm(6)
        self.up = nn.ConvTranspose2d(3, 8, 2, bias=True)
        self.fc = nn.Linear(6, 4)
        self.head = nn.Linear(6, 4)
        self.head.weight = self.fc.weight


def test_weights_of_linear_and_convolution_layers_once_each():
    layout = prunable_layout(Mixed())
    assert layout.names == ("conv.weight", "up.weight", "fc.weight")
    assert layout.shapes == ((6, 2, 3), (3, 8, 2, 2), (4, 6))
    assert [a.groups for a in layout.axes] == [2, 1, 1]
    assert (layout.axes[1].output, layout.axes[1].input) == (1, 0)


def test_a_weight_tied_to_an_embedding_is_pruned_under_the_layers_name():
    model = LanguageModel()
    with pytest.raises(InputError, match="nothing to prune"):
        prunable_layout(model)
    layout = prunable_layout(model, targets="head")
    assert layout.names == ("head.weight",)
    assert torch.equal(read_weights(model, layout), model.embed.weight.detach().reshape(-1))
    write_weights(model, layout, torch.zeros(20))
    assert not model.embed.weight.any()


def test_half_types_are_read_as_float32_and_written_as_they_are():
    model = nn.Linear(3, 2).bfloat16()
    layout = prunable_layout(model)
    assert read_weights(model, layout).dtype == torch.float32
    write_weights(model, layout, torch.ones(6))
    assert model.weight.dtype == torch.bfloat16


def test_weights_without_real_values_are_refused_by_name():
    for layer in (nn.LazyLinear(3), nn.Linear(3, 2, device="meta")):
        with pytest.raises(InputError, match=r"0.weight has no values"):
            prunable_layout(nn.Sequential(layer))
    with pytest.raises(InputError, match=r"0.weight is torch.complex64"):
        prunable_layout(nn.Sequential(nn.Linear(3, 2, dtype=torch.complex64)))


def test_a_bare_layer_is_a_network():
    assert prunable_layout(nn.Linear(3, 2)).names == ("weight",)


def test_writing_goes_into_the_same_tensors_and_nothing_else():
    model = Mixed()
    layout = prunable_layout(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weight = model.fc.weight
    flat = read_weights(model, layout)
    write_weights(model, layout, flat + 1)
    assert model.fc.weight is weight is model.head.weight
    for name, value in model.state_dict().items():
        changed = name in {*layout.names, "head.weight"}
        assert torch.equal(value, before[name] + 1 if changed else before[name])
    assert torch.equal(read_weights(model, layout), flat + 1)


def test_a_network_without_such_layers_is_refused():
    with pytest.raises(InputError, match="nothing to prune: Sequential"):
        prunable_layout(nn.Sequential(nn.LayerNorm(3), nn.ReLU()))


def test_a_computed_weight_is_refused_by_name_with_the_way_out():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    parametrizations.orthogonal(model[1])
    with pytest.raises(InputError, match=r"weight of 1 .*remove_parametrizations"):
        prunable_layout(model)
    model = nn.Sequential(nn.Linear(3, 2))
    prune.l1_unstructured(model[0], "weight", 1)
    with pytest.raises(InputError, match=r"weight of 0 .*prune\.remove"):
        prunable_layout(model)
    prune.remove(model[0], "weight")
    assert prunable_layout(model).size == 6
