"""Positioned rows against the gradients of every row by autograd, held as a dense matrix."""

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from chita.collect.batched import BatchedBackward
from chita.collect.positioned import positions_of
from chita.losses import LOSSES
from chita.problem import DenseRows, PositionedRows

many = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
KINDS = ("linear", "conv", "transposed", "depthwise", "tied", "sizes")


class Repeated(nn.Module):
    """A layer called several times, at other sizes each time."""

    def __init__(self, layer, times):
        super().__init__()
        self.layer, self.times = layer, times

    def forward(self, x):
        found = 0.0
        for cut in range(self.times):
            y = self.layer(x[..., cut:])
            found = found + y.square().mean(-1) + y.mean(-1)
        return found


@st.composite
def layers(draw):
    """A layer, samples that it takes, and how often it is called."""
    kind = draw(st.sampled_from(["linear", "conv", "depthwise", "transposed"]))
    times = draw(st.sampled_from([1, 1, 2]))
    few = st.integers(1, 3)
    if kind == "linear":
        wide, out = draw(few), draw(few)
        layer = nn.Linear(wide, out)
        return nn.Sequential(Last(), layer, Last()), (wide, draw(st.integers(2, 5))), times
    dimensions = draw(st.integers(1, 2))
    groups = draw(st.integers(1, 3))
    inner, outer = (1, 1) if kind == "depthwise" else (draw(few), draw(few))
    sizes = [draw(st.integers(5, 7)) for _ in range(dimensions)]
    options = {
        "kernel_size": [draw(few) for _ in range(dimensions)],
        "stride": [draw(st.integers(1, 2)) for _ in range(dimensions)],
        "dilation": [draw(st.integers(1, 2)) for _ in range(dimensions)],
        "padding": [draw(st.integers(0, 1)) for _ in range(dimensions)],
        "groups": groups,
        "bias": False,
    }
    if kind == "transposed":
        options["output_padding"] = [
            draw(st.integers(0, max(s, d) - 1))
            for s, d in zip(options["stride"], options["dilation"], strict=True)
        ]
        options["kernel_size"] = [max(2, k) for k in options["kernel_size"]]
        made = (nn.ConvTranspose1d, nn.ConvTranspose2d)[dimensions - 1]
    else:
        options["padding_mode"] = draw(st.sampled_from(["zeros", "circular", "reflect"]))
        if options["padding_mode"] == "zeros" and set(options["stride"]) == {1}:
            options["padding"] = draw(st.sampled_from([options["padding"], "same"]))
        made = (nn.Conv1d, nn.Conv2d)[dimensions - 1]
    layer = made(groups * inner, groups * outer, **options)
    return layer, (groups * inner, *sizes), times


class Last(nn.Module):
    """Channels last, or first again."""

    def forward(self, x):
        return x.mT


def rows_of_layer(layer, shape, times, each, n=4):
    """The rows as dense A (n, p), by autograd, and as `PositionedRows`, both in float64."""
    torch.manual_seed(0)
    model = Repeated(layer, times).double().eval()
    name, weight = next((k, w) for k, w in model.named_parameters() if w.ndim > 1)
    inputs = torch.randn(n * each, *shape, dtype=torch.float64)
    targets = torch.randn_like(model(inputs).detach())
    loss = LOSSES["mse"]
    dense = []
    for at in range(n):
        own = slice(at * each, (at + 1) * each)
        value = loss.mean(model, (inputs[own], targets[own]))
        dense.append(torch.autograd.grad(value, weight)[0].flatten())
    uses, rows = BatchedBackward(model, loss, [name], each).uses((inputs, targets))
    held = [positions_of(use, rows) for use in uses[name]]
    return torch.stack(dense), PositionedRows(held, weight.shape, n, torch.float64)


def close(found, expected):
    scale = float(expected.abs().sum())  # of no columns, too
    return torch.allclose(found, expected, rtol=1e-9, atol=1e-9 * scale)


@many
@given(layers(), st.sampled_from([1, 2]), st.integers(0, 99))
def test_products_are_those_of_the_dense_matrix(drawn, each, seed):
    layer, shape, times = drawn
    a, rows = rows_of_layer(layer, shape, times, each)
    n, p = a.shape
    generator = torch.Generator().manual_seed(seed)
    random = lambda *size: torch.randn(*size, dtype=torch.float64, generator=generator)  # noqa: E731
    v, z = random(p), random(n)
    for count in (1, max(1, p // 40), p // 3, p):
        index = torch.randperm(p, generator=generator)[:count]
        assert close(rows.gather(index), a.T[index])
        index = index.sort().values
        assert close(rows.times(v[index], index), a[:, index] @ v[index])
        assert close(rows.transpose_times(z, index), a[:, index].T @ z)
    assert close(rows.squared_norms(), a.square().sum(0))
    dense = DenseRows(a.T.contiguous())
    outputs = next(w for w in layer.parameters() if w.ndim > 1).shape[0]
    for parts in {1, outputs, p}:
        assert close(rows.times_each(v, parts), dense.times_each(v, parts))
        each_z = random(parts, n)
        assert close(rows.transpose_times_each(each_z), dense.transpose_times_each(each_z))
    for start, stop in ((0, p // outputs), (p - p // outputs, p), (1, p)):
        own = slice(start, stop)
        part = rows.part(own)
        assert close(part.times(v[own]), a[:, own] @ v[own])
        assert close(part.gather(torch.arange(stop - start)), a.T[own])


def test_single_columns_are_those_of_whole_outputs(monkeypatch):
    for layer, shape in (
        (nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2), (4, 9, 8)),
        (nn.ConvTranspose1d(2, 3, 4, stride=3, output_padding=2), (2, 6)),
    ):
        a, rows = rows_of_layer(layer, shape, 2, 2)
        index = torch.tensor([len(a.T) - 1, 3, 8, 0])
        for few in (0, 10**6):
            monkeypatch.setattr("chita.problem.rows.positioned._FEW", few)
            assert close(rows.gather(index), a.T[index])
