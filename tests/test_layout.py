import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from chita.errors import InputError
from chita.layout import Axes, Layout
from chita.models.roles import roles

shapes = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple), max_size=5)


def layout_of(shapes):
    names = tuple(f"t{i}" for i in range(len(shapes)))
    return Layout(names=names, shapes=tuple(shapes), axes=(Axes(),) * len(names))


@given(shapes.filter(len))
def test_flatten_is_concatenation_and_unflatten_its_inverse(shapes):
    layout = layout_of(shapes)
    tensors = {name: torch.randn(shape) for name, shape in zip(layout.names, shapes, strict=True)}
    flat = layout.flatten(tensors)
    assert torch.equal(flat, torch.cat([t.reshape(-1) for t in tensors.values()]))
    back = layout.unflatten(flat)
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert all(torch.equal(flat[part], tensors[name].reshape(-1)) for name, part in layout)


def test_unflatten_gives_views_and_flatten_a_copy():
    layout = layout_of([(2, 2), (3,)])
    flat = torch.zeros(7)
    layout.unflatten(flat)["t1"][0] = 5
    assert flat[4] == 5
    tensor = {"t0": torch.zeros(2, 2), "t1": torch.zeros(3)}
    layout.flatten(tensor)[0] = 1
    assert tensor["t0"][0, 0] == 0


def test_all_faults_are_listed_at_once():
    layout = layout_of([(2, 2), (3,)])
    with pytest.raises(InputError, match=r"t1 is missing; t0 has shape \(4,\), expected \(2, 2\)"):
        layout.flatten({"t0": torch.zeros(4)})
    with pytest.raises(InputError, match="expected"):
        layout.unflatten(torch.zeros(6))


def test_a_name_appears_once():
    with pytest.raises(InputError, match="repeated: a"):
        Layout(names=("a", "a"), shapes=((1,), (1,)), axes=(Axes(), Axes()))
    with pytest.raises(InputError, match="2 shapes"):
        Layout(names=("a",), shapes=((1,), (1,)), axes=(Axes(),))


@pytest.mark.parametrize(
    ("layer", "inputs", "dimension"),
    [
        (nn.Linear(3, 5, bias=False), (2, 3), 1),
        (nn.Conv2d(4, 6, 3, groups=2, bias=False), (2, 4, 5, 5), 1),
        (nn.ConvTranspose2d(4, 6, 3, bias=False), (2, 4, 5, 5), 1),
        (nn.ConvTranspose1d(4, 6, 3, groups=2, bias=False), (2, 4, 5), 1),
        (nn.Conv3d(2, 4, 2, groups=2, bias=False), (2, 2, 3, 3, 3), 1),
        (Conv1D(5, 3), (2, 3), 1),
    ],
)
def test_an_output_whose_weights_are_zero_is_zero_and_no_other_changes(layer, inputs, dimension):
    role = next(roles(layer))
    x = torch.rand(inputs) + 0.1
    with torch.no_grad():
        layer.weight.uniform_(0.1, 1)
        dense, kept = layer(x), layer.weight.clone()
        index = role.axes.by_output(torch.arange(kept.numel()).view(kept.shape))
        assert len(index) == dense.shape[dimension]
        for output, named in enumerate(index):  # a bias, if any, is zero
            layer.weight.copy_(kept)
            layer.weight.view(-1)[named] = 0
            changed = (layer(x) != dense).transpose(0, dimension).flatten(1).any(1)
            assert changed.nonzero().flatten().tolist() == [output]
            assert not layer(x).transpose(0, dimension)[output].any()
