"""Layers of every shape on the whole path: what is reported is what their outputs show."""

import itertools

import pytest
import torch
from torch import nn

import chita
from chita.models.blocks import network_blocks
from chita.models.prunable import prunable_layout
from tests.families.language import FAMILIES
from tests.pruning.cases import in_turn

SHAPES = {
    "conv2d": lambda: nn.Conv2d(6, 8, 3, stride=2, padding=1),
    "conv2d of groups": lambda: nn.Conv2d(6, 12, (3, 2), padding=(1, 0), groups=3),
    "conv2d that reflects": lambda: nn.Conv2d(6, 8, 3, padding=2, padding_mode="reflect"),
    "conv2d depthwise": lambda: nn.Conv2d(6, 12, 5, padding=2, groups=6),
    "pointwise": lambda: nn.Conv2d(6, 20, 1),
}
SOLVERS = ["alps", "sparsegpt", "chita", "obc"]
LONG = {
    "conv1d": lambda: nn.Conv1d(6, 8, 5, dilation=2),
    "conv1d of groups": lambda: nn.Conv1d(6, 8, 3, stride=2, padding=2, groups=2),
}


def least_squares(layer, x, mask):
    """The relative error of the best weights on a mask, by outputs: torch.linalg.lstsq."""
    outputs = plain(layer, x).double()
    target = outputs.movedim(1, 0).flatten(1)
    error = 0.0
    for o in range(len(target)):
        kept = mask[o].flatten().nonzero().flatten()
        columns = []
        for place in kept:
            one = torch.zeros_like(layer.weight)
            one[o].view(-1)[place] = 1
            columns.append(plain(layer, x, one)[:, o].double().flatten())
        if not columns:
            error += float(target[o].square().sum())
            continue
        a = torch.stack(columns, 1)
        best = torch.linalg.lstsq(a, target[o].unsqueeze(1), driver="gelsd").solution
        error += float((target[o] - (a @ best).squeeze(1)).square().sum())
    return error / float(target.square().sum())


def plain(layer, x, weight=None):
    """What a convolution gives without its bias, with other weights if given."""
    with torch.no_grad():
        return layer._conv_forward(x, layer.weight if weight is None else weight, None)


def test_convolutions_of_every_shape(subtests):
    for name, solver in in_turn([*SHAPES, *LONG], SOLVERS, each=2):
        with subtests.test(shape=name, solver=solver):
            prune_convolution(name, solver)


@pytest.mark.slow
def test_every_solver_on_convolutions_of_every_shape(subtests):
    for name, solver in itertools.product([*SHAPES, *LONG], SOLVERS):
        with subtests.test(shape=name, solver=solver):
            prune_convolution(name, solver)


def prune_convolution(name, solver):
    """What is reported of a convolution is what its outputs show."""
    torch.manual_seed(1)
    size = (24, 6, 40) if name in LONG else (24, 6, 9, 9)
    mix = torch.randn(6, 6)
    x = torch.einsum("ij,bj...->bi...", mix, torch.randn(size)).cumsum(-1) / 3
    layer = {**SHAPES, **LONG}[name]()
    model = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(3))
    model(x)
    target = torch.zeros(len(x), dtype=torch.int64)
    options = {
        "sparsity": 0.6,
        "fisher": chita.Fisher(samples=len(x)),
        "stages": chita.Stages(bn_recalibrate=False),
        "quadratic": chita.Quadratic(ridge="0.0001x"),
    }
    found = chita.prune(model, (x, target), solver=solver, layerwise=True, ignore="2", **options)
    new, mask = found.model[0], found.masks["0.weight"]
    assert int(mask.sum()) == found.record.nnz == int(0.4 * layer.weight.numel() + 1e-9)
    assert torch.equal(mask, new.weight != 0)
    assert not torch.allclose(new.weight[mask], layer.weight[mask], rtol=1e-3)
    change = plain(layer, x, new.weight - layer.weight).double().square().sum()
    error = float(change / plain(layer, x).double().square().sum())
    (record,) = found.layers
    assert record.solved.error == pytest.approx(error, rel=1e-3, abs=1e-7)
    least = least_squares(layer, x, mask)
    assert error >= least * (1 - 1e-6)
    if solver != "sparsegpt":
        assert error <= 1.05 * least
    assert torch.equal(new.bias, layer.bias)


def test_layers_of_hugging_face_that_hold_inputs_first():
    """GPT-2's Conv1D (16, 64) and (16, 48): the error of the outputs that they give."""
    family = FAMILIES["gpt2"]
    model, batch = family.build(), family.data()
    ours = chita.prune(
        model,
        batch,
        sparsity=0.5,
        solver="alps",
        fisher=chita.Fisher(samples=24),
        quadratic=chita.Quadratic(ridge="0.0001x"),
        stages=chita.Stages(bn_recalibrate=False),
        ignore="lm_head",
    )
    first = network_blocks(model, prunable_layout(model, ignore="lm_head").names)[0]
    name = next(n for n in first.tensors if "c_attn" in n)
    module = model.get_submodule(name.rpartition(".")[0])
    assert module.weight.shape == (16, 48)
    seen = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(**batch)
    handle.remove()
    x = torch.cat([part.reshape(-1, 16) for part in seen]).double()
    weight, new = (m.get_parameter(name).detach().double() for m in (model, ours.model))
    target = x @ weight
    error = (x @ (new - weight)).square().sum() / target.square().sum()
    record = next(layer for layer in ours.layers if layer.name == name)
    assert record.solved.error == pytest.approx(float(error), rel=1e-3)
    mask = ours.masks[name]
    least = 0.0
    for o in range(48):
        a = x[:, mask[:, o]]
        best = torch.linalg.lstsq(a, target[:, o : o + 1], driver="gelsd").solution
        least += float((target[:, o : o + 1] - a @ best).square().sum())
    assert float(error) <= 1.05 * least / float(target.square().sum())
