"""A call gives in whatever modes of PyTorch it is made what it gives without them."""

from contextlib import contextmanager

import pytest
import torch
from torch import nn

import chita
from tests.pruning.cases import GIVEN

DATA = torch.randn(80, 12, generator=torch.Generator().manual_seed(0)), torch.arange(80) % 5
FEW = chita.Fisher(samples=40)
GIVES = [
    pytest.param({"solver": "alps", "sparsity": 0.6}, id="layers"),
    pytest.param({**GIVEN, "budget": "flops=0.6 & sparsity=0.5"}, id="flops"),
    pytest.param({"solver": "iht", "sparsity": 0.7}, id="iht"),
    pytest.param({"solver": "random", "sparsity": 0.7}, id="random"),
    pytest.param(
        {**GIVEN, "sparsity": 0.6, "training": chita.Training(epochs=3, events=2)}, id="training"
    ),
    pytest.param({"solver": "chita", "sparsity": 0.7}, id="chita", marks=pytest.mark.slow),
]


@contextmanager
def set_for_a_block(write, value, before):
    write(value)
    try:
        yield
    finally:
        write(before)


MODES = {
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference": torch.inference_mode,
    "no_grad": torch.no_grad,
    "products in bfloat16": lambda: set_for_a_block(
        torch.set_float32_matmul_precision, "medium", "highest"
    ),
    "float64": lambda: set_for_a_block(torch.set_default_dtype, torch.float64, torch.float32),
    "bfloat16": lambda: set_for_a_block(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "another device": lambda: torch.device("meta"),
    # Fills memory that is not written yet: what is read of it shows.
    "deterministic": lambda: set_for_a_block(torch.use_deterministic_algorithms, True, False),
}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 24), nn.Linear(24, 12)

    def forward(self, x):
        return x + self.b(torch.relu(self.a(x)))


class InferenceBlock(Block):
    forward = torch.inference_mode()(Block.forward)


class AutocastBlock(Block):
    forward = torch.autocast("cpu", dtype=torch.bfloat16)(Block.forward)


def network(block=Block, norm=nn.Identity):
    torch.manual_seed(1)
    return nn.Sequential(block(), norm(12), block(), nn.Linear(12, 5))


def same(a, b):
    pairs = zip(a.model.state_dict().values(), b.model.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


@pytest.mark.parametrize("asked", GIVES)
@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_modes_around_a_call_have_no_part(mode, asked):
    model = network(norm=nn.BatchNorm1d)
    expected = chita.prune(model, DATA, fisher=FEW, **asked)
    with mode():
        found = chita.prune(model, DATA, fisher=FEW, **asked)
    assert same(expected, found)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_they_have_none_in_refitting_applying_and_measuring(mode):
    model, masks = network(), {"0.a.weight": torch.arange(288).view(24, 12) % 3 > 0}
    refit = {"fisher": FEW, "quadratic": GIVEN["quadratic"], "evaluation": DATA}
    shares = {"sparsities": [0.5], "solver": "magnitude", "fisher": FEW}
    expected = chita.refit(model, DATA, masks, **refit)
    applied, levels = chita.apply_masks(model, masks), chita.sensitivity(model, DATA, **shares)
    with mode():
        found = chita.refit(model, DATA, masks, **refit)
        assert same(applied, chita.apply_masks(model, masks))
        assert chita.sensitivity(model, DATA, **shares).levels == levels.levels
        assert chita.plan(model, DATA, budget="flops=0.6 & sparsity=0.5").kept
    assert same(expected, found)
    assert found.record.pruned_metric == expected.record.pruned_metric


def test_what_the_caller_had_set_is_there_afterwards():
    with MODES["products in bfloat16"](), MODES["autocast"](), torch.inference_mode():
        chita.apply_masks(network(), {"3.weight": torch.ones(5, 12) > 0})
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.is_autocast_enabled("cpu")
        assert torch.is_inference_mode_enabled()


@pytest.mark.parametrize("norm", [nn.Identity, nn.BatchNorm1d])
def test_layers_called_in_inference_mode_are_pruned_as_others(norm):
    asked = {"sparsity": 0.6, "fisher": FEW, "solver": "alps"}
    plain = chita.prune(network(norm=norm), DATA, **asked)
    assert same(plain, chita.prune(network(InferenceBlock, norm), DATA, **asked))


def test_products_of_layers_called_in_autocast_are_whole():
    """The first layer sees the very inputs that it does without; only its outputs are rounded."""
    asked = {"sparsity": 0.6, "fisher": FEW, "solver": "alps"}
    plain = chita.prune(network(), DATA, **asked)
    found = chita.prune(network(AutocastBlock), DATA, **asked)
    assert torch.equal(plain.masks["0.a.weight"], found.masks["0.a.weight"])
    a, b = plain.record.layers[0], found.record.layers[0]
    assert a.solved.error == b.solved.error


@pytest.mark.parametrize("solver", ["bso", "alps"])
def test_samples_made_in_inference_mode_are_samples(solver):
    with torch.inference_mode():
        data = DATA[0].clone(), DATA[1].clone()
    asked = {"sparsity": 0.6, "fisher": FEW, "solver": solver}
    assert same(chita.prune(network(), DATA, **asked), chita.prune(network(), data, **asked))
