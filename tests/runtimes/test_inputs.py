"""What networks are called with, and what they return."""

import pytest
import torch
from torch import nn

from chita.errors import InputError
from chita.runtimes.inputs import inputs_of, outputs_by_name, reference
from tests.runtimes.networks import Keywords, words


def test_a_tensor_several_and_a_dict():
    one = inputs_of(torch.zeros(2, 3))
    assert (one.names, one.keywords, one.samples) == (("input",), False, 2)
    two = inputs_of((torch.zeros(2, 3), torch.zeros(2)))
    assert (two.names, two.keywords) == (("input_0", "input_1"), False)
    named = inputs_of({**words(3), "text": "no tensor"})
    assert (named.names, named.keywords) == (("input_ids", "attention_mask"), True)
    assert inputs_of(named) is named


@pytest.mark.parametrize(
    "given",
    [
        "text",
        None,
        (),
        {},
        {"labels": torch.zeros(2)},
        (torch.zeros(2), torch.zeros(3)),
        torch.zeros(0, 3),
        torch.tensor(1.0),
        (torch.zeros(2), "x"),
    ],
)
def test_what_no_network_is_called_with(given):
    with pytest.raises(InputError, match="give what the network is called with"):
        inputs_of(given)


def test_samples_are_cut_and_repeated():
    given = inputs_of(torch.arange(3))
    assert given.resized(2).tensors[0].tolist() == [0, 1]
    assert given.resized(7).tensors[0].tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_outputs_have_names():
    a, b = torch.zeros(1), torch.ones(1)
    given = inputs_of({"w": a})
    assert list(outputs_by_name(a, given)) == ["output"]
    assert list(outputs_by_name((a, b), given)) == ["output_0", "output_1"]
    found = outputs_by_name({"x": a, "y": (a, b), "z": None, "w": b}, given)
    assert list(found) == ["x", "y.0", "y.1", "w_out"]
    with pytest.raises(InputError, match="only tensors can leave"):
        outputs_by_name("text", given)


def test_varied_samples_are_all_different():
    numbers, words = torch.randn(1, 4), torch.arange(5).view(1, 5)
    found = inputs_of({"x": numbers, "ids": words}).varied(3)
    assert torch.equal(found.tensors[0][0], numbers[0])
    assert torch.equal(found.tensors[1][0], words[0])
    for tensor in found.tensors:
        assert len({tuple(sample.tolist()) for sample in tensor}) == 3
    assert found.tensors[1].sort(1).values.unique(dim=0).tolist() == [[0, 1, 2, 3, 4]]


def test_the_reference_is_that_of_eval_mode_and_changes_nothing():
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    given = torch.randn(4, 3)
    found = reference(network, inputs_of(given))["output"]
    assert network.training
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert torch.allclose(found, given / (1 + 1e-5) ** 0.5)
    assert list(reference(Keywords(), inputs_of(words()))) == ["hidden", "pooled"]


def test_a_call_that_fails_names_the_module():
    with pytest.raises(InputError, match=r"0 \(Linear\)"):
        reference(nn.Sequential(nn.Linear(3, 2)), inputs_of(torch.zeros(1, 4)))
