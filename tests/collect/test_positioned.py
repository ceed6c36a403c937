"""Positioned rows against the gradients of every row by autograd, held as a dense matrix."""

import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from chita.collect.batched import BatchedBackward
from chita.collect.gradients import collect_gradients
from chita.collect.positioned import positions_of
from chita.data.examples import Examples
from chita.errors import InputError
from chita.losses import LOSSES
from chita.models.prunable import prunable_layout
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


def image_network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2, groups=2, padding=1), nn.ReLU(),
        nn.Conv2d(24, 64, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(64, 80), nn.ReLU(), nn.Linear(80, 5),
    ).eval()  # fmt: skip


def collected(model, count=12, *, size=6, each=1, **options):
    torch.manual_seed(1)
    examples = Examples((torch.randn(count * each, 3, size, size), torch.arange(count * each) % 5))
    layout = prunable_layout(model)
    return collect_gradients(model, layout, examples, samples_per_gradient=each, **options)


@pytest.mark.parametrize("storage", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("each", [1, 2])
def test_rows_without_room_as_a_matrix_are_held_positioned(storage, each):
    model = image_network()
    options = {"storage": storage, "each": each, "size": 6 // each + each - 1}
    whole = collected(model, **options)
    assert set(whole.backends.values()) <= {"rule", "factored"}
    index = torch.arange(whole.rows.p)
    expected, before = whole.rows.gather(index), set()
    width = 4 if storage is None else 2
    for numbers in (45_000, 34_000):  # of 47,100, factors included
        found = collected(model, **options, room=numbers * width)
        held = {n for n, kind in found.backends.items() if kind == "positioned"}
        assert before < held, "with less room more are held positioned"
        before = held
        error = (found.rows.gather(index) - expected).abs().max() / expected.abs().max()
        assert error <= (1e-6 if storage is None else 0.01)
        assert found.rows.formed


def test_rows_that_find_no_room_are_refused_with_the_number_that_would_do():
    model = image_network()
    with pytest.raises(InputError, match=r"12 rows of \d+ weights need .* `samples` to (\d+)") as e:
        collected(model, room=60_000)
    most = int(re.search("`samples` to ([0-9]+)", str(e.value))[1])
    collected(model, most, room=60_000)
    with pytest.raises(InputError, match="need"):
        collected(model, most + 1, room=60_000)


def test_samples_of_another_size_are_never_held_positioned():
    model = image_network()
    sizes = [6] * 4 + [7] * 4
    parts = [(torch.randn(1, 3, size, size), torch.zeros(1).long()) for size in sizes]
    layout = prunable_layout(model)
    found = collect_gradients(model, layout, Examples(*parts), room=10**9)
    assert "positioned" not in found.backends.values()
    with pytest.raises(InputError, match="need"):  # only convolutions differ in their outlines
        collect_gradients(model, layout, Examples(*parts), room=60_000)


def test_rows_formed_one_by_one_are_written_some_at_a_time(monkeypatch):
    a, rows = rows_of_layer(nn.Conv2d(2, 3, 2), (2, 4, 4), 1, 2, n=7)
    monkeypatch.setattr("chita.problem.rows.positioned._FORMED", 1)
    monkeypatch.setattr("chita.problem.rows.positioned._LINE", 3)
    index = torch.arange(0, rows.p, 2)
    assert close(rows.gather(index), a.T[index])
    assert close(rows.squared_norms(), a.square().sum(0))
