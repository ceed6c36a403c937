"""What layers see, against the products that they form of it."""

import pytest
import torch
from torch import nn

from chita.collect import inputs as inputs_module
from chita.collect.inputs import InputGrams, sees
from chita.collect.rules.convolution import windows


class Conv1D(nn.Module):
    """A linear layer with its weight (in, out), as Hugging Face has it."""

    def __init__(self, nf, nx):
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x):
        return x @ self.weight + self.bias


CONVOLUTIONS = {
    "1d": (nn.Conv1d(4, 6, 3, stride=2, padding=2), (3, 4, 11)),
    "1d, groups": (nn.Conv1d(4, 6, 2, groups=2, dilation=2), (3, 4, 11)),
    "2d": (nn.Conv2d(3, 5, 3, padding=1), (2, 3, 6, 7)),
    "2d, strides": (nn.Conv2d(3, 5, (3, 2), stride=(2, 3), padding=(0, 1)), (2, 3, 8, 7)),
    "2d, groups": (nn.Conv2d(6, 4, 3, groups=2, padding="same"), (2, 6, 5, 5)),
    "2d, depthwise": (nn.Conv2d(6, 6, 3, groups=6, padding=1), (2, 6, 5, 5)),
    "2d, reflected": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 2, 5, 5)),
    "2d, circular": (nn.Conv2d(2, 3, 3, padding=2, padding_mode="circular"), (2, 2, 5, 5)),
    "2d, 1x1": (nn.Conv2d(8, 3, 1), (2, 8, 4, 4)),
    "3d": (nn.Conv3d(2, 4, 2, padding=1, dilation=2), (2, 2, 4, 5, 4)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_windows_times_the_weight_are_the_outputs(name):
    module, shape = CONVOLUTIONS[name]
    inputs = torch.randn(shape)
    seen = torch.cat([*windows(module, inputs)], 1)
    weight = module.weight.view(module.groups, -1, seen.shape[2])
    products = (weight @ seen.mT).flatten(0, 1)  # (outputs, samples x positions)
    expected = (module(inputs) - module.bias.view(-1, *[1] * (len(shape) - 2))).movedim(1, 0)
    assert torch.allclose(products, expected.flatten(1), atol=1e-5)


def test_windows_of_many_samples_are_those_of_blocks(monkeypatch):
    module, _ = CONVOLUTIONS["2d, groups"]
    inputs = torch.randn(7, 6, 5, 5)
    whole = torch.cat([*windows(module, inputs)], 1)
    monkeypatch.setattr("chita.linalg.windows._COPIED", 2000)
    parts = [*windows(module, inputs)]
    assert len(parts) > 1
    assert torch.equal(torch.cat(parts, 1), whole)


LINEAR = {"Linear": nn.Linear(5, 3), "Conv1D": Conv1D(3, 5)}


@pytest.mark.parametrize("name", LINEAR)
def test_the_gram_is_the_mean_over_all_tokens_of_all_batches(name, monkeypatch):
    monkeypatch.setattr("chita.collect.inputs._CHUNK", 7)
    module = LINEAR[name]
    batches = [torch.randn(2, 6, 5), torch.randn(9, 5), torch.randn(5)]
    grams = InputGrams({name: [module]})
    with grams.watching(), torch.no_grad():
        module(batches[0])
        module(x=batches[1]) if name == "Conv1D" else module(input=batches[1])
        module(batches[2])
    module(batches[0])  # nobody watches
    found = grams.of(name)
    x = torch.cat([batch.reshape(-1, 5) for batch in batches]).double()
    assert found.count == 22
    assert torch.allclose(found.gram, (x.T @ x / 22).unsqueeze(0), rtol=1e-5, atol=1e-6)
    change = torch.randn(3, 5).double()
    errors = (x @ change.T).square().sum() / 22
    assert float((change @ found.gram[0] * change).sum()) == pytest.approx(float(errors), rel=1e-5)


def test_convolutions_have_a_gram_for_each_group():
    module, shape = CONVOLUTIONS["2d, groups"]
    grams = InputGrams({"c": [module]})
    inputs = torch.randn(shape)
    with grams.watching(), torch.no_grad():
        module(inputs)
        module(inputs[0])  # one sample without its dimension
    found = grams.of("c")
    seen = torch.cat([*windows(module, torch.cat([inputs, inputs[:1]]))], 1).double()
    assert found.count == 75
    assert torch.allclose(found.gram, seen.mT @ seen / 75, rtol=1e-5, atol=1e-6)


def test_many_small_sums_do_not_drift():
    """A million inputs far from zero: sums in float32 alone would lose their last digits."""
    module = nn.Linear(2, 1)
    grams = InputGrams({"l": [module]})
    x = torch.rand(50_000, 2) + 10
    with grams.watching(), torch.no_grad():
        for _ in range(20):
            module(x)
    exact = x.double().T @ x.double() / len(x)
    assert torch.allclose(grams.of("l").gram[0], exact, rtol=3e-6)


def test_what_was_not_called_saw_nothing():
    seen = InputGrams({"l": [nn.Linear(2, 1)]}).of("l")
    assert (seen.count, seen.gram.numel()) == (0, 0)


def test_what_sees_its_inputs():
    attention = nn.MultiheadAttention(4, 2)
    assert sees(nn.Linear(2, 2), "weight")
    assert sees(Conv1D(2, 3), "weight")
    assert sees(nn.Conv3d(2, 2, 1), "weight")
    assert not sees(nn.Linear(2, 2), "bias")
    assert not sees(nn.ConvTranspose2d(2, 2, 1), "weight")
    assert not sees(attention, "in_proj_weight")
    assert not sees(nn.LSTM(2, 2), "weight_ih_l0")


def test_one_tensor_for_several_layers_is_multiplied_once(monkeypatch):
    a, b, c = nn.Linear(4, 2), nn.Linear(4, 3), nn.Linear(4, 3)
    grams = InputGrams({"a": [a], "b": [b], "c": [c]})
    seen = []
    parts = inputs_module._parts
    monkeypatch.setattr(inputs_module, "_parts", lambda *x: seen.append(0) or parts(*x))
    x, y = torch.randn(5, 4), torch.randn(6, 4)
    with grams.watching(), torch.no_grad():
        for batch in (x, y):
            a(batch)
            b(batch)
            batch.mul_(2)  # another tensor now
            c(batch)
    assert len(seen) == 4
    exact = torch.cat([x, y]).double()
    assert torch.allclose(grams.of("c").gram[0], exact.T @ exact / 11, rtol=1e-5)
    for name in "ab":
        assert torch.allclose(grams.of(name).gram, grams.of("c").gram / 4, rtol=1e-5)
