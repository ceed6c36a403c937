"""Every rule against one backward per row, on random shapes."""

import gc
import weakref

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from chita.collect import batched
from chita.collect.gradients import collect_gradients
from chita.collect.rules import RULES, rule_of
from chita.data.examples import Examples
from chita.losses import LOSSES
from chita.models.prunable import prunable_layout
from chita.problem import HStackRows
from tests.collect.rows import rows_of

COUNT = 4


class Around(nn.Module):
    """A layer, after one that makes its input depend on a weight; squares make δ uneven."""

    def __init__(self, layer, scale=True, times=1, inplace=None):
        super().__init__()
        self.layer, self.times = layer, times
        self.inplace = times == 1 if inplace is None else inplace
        self.scale = nn.Parameter(torch.tensor(1.3)) if scale else None

    def forward(self, x):
        y = x if self.scale is None else self.scale * x
        for _ in range(self.times):
            y = self.layer(y)
        return functional.leaky_relu(y, 0.1, inplace=self.inplace) + 0.1 * y.square()


def check(model, inputs, samples_per_gradient, targets, backend="rule"):
    """Rows to 1e-5 in float32, and to rounding in float64, of those by one backward per row."""
    with torch.no_grad():
        shape = model(inputs).shape
    examples = Examples((inputs, torch.randn(shape, dtype=inputs_type(model))))
    layout = prunable_layout(model, targets=targets)
    options = {"samples_per_gradient": samples_per_gradient, "loss": LOSSES["mse"]}
    expected = rows_of(model, layout, examples, fastest="loop", **options)
    found = collect_gradients(model, layout, examples, fastest="rule", **options)
    assert set(found.backends.values()) == {backend}
    index = torch.arange(layout.size)
    difference = (found.rows.gather(index) - expected.gather(index)).norm()
    error = 1e-5 if expected.dtype == torch.float32 else 1e-12
    assert difference <= error * expected.gather(index).norm()


def inputs_type(model):
    return next(model.parameters()).dtype


def drawn(shape, dtype):
    return torch.randn(COUNT, *shape, dtype=dtype)


many = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
gradient_sizes = st.sampled_from([1, 2, 4])
types = st.sampled_from([torch.float32, torch.float64])


@many
@given(st.data(), gradient_sizes, types)
def test_linear(data, samples_per_gradient, dtype):
    wide, out = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 6))
    between = data.draw(st.lists(st.integers(1, 3), max_size=2))
    times = data.draw(st.sampled_from([1, 3])) if wide == out else 1
    model = Around(nn.Linear(wide, out), times=times).to(dtype)
    targets = ["layer.weight", "layer.bias"]
    check(model, drawn((*between, wide), dtype), samples_per_gradient, targets)


def test_a_layer_whose_output_is_written_into_as_a_view_needs_no_rule():
    """Autograd then forgets who waits for δ at that output."""
    model = Around(nn.Linear(3, 3), times=3, inplace=True).double()
    targets = ["layer.weight", "layer.bias"]
    check(model, drawn((2, 3), torch.float64), 1, targets, "vmap")


@many
@given(st.data(), gradient_sizes, types, st.integers(1, 3), st.booleans())
def test_convolutions(data, samples_per_gradient, dtype, space, transposed):
    def each(low, high):
        return tuple(data.draw(st.integers(low, high)) for _ in range(space))

    groups = data.draw(st.sampled_from([1, 2]))
    kernel, stride, dilation, padding = each(1, 3), each(1, 2), each(1, 2), each(0, 1)
    options = {"stride": stride, "dilation": dilation, "groups": groups, "padding": padding}
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[space - 1]
    if transposed:
        kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[space - 1]
        pairs = zip(stride, dilation, strict=True)
        options["output_padding"] = tuple(min(1, max(s, d) - 1) for s, d in pairs)
    else:
        modes = ["zeros", "reflect", "replicate", "circular"] if space < 3 else ["zeros"]
        options["padding_mode"] = data.draw(st.sampled_from(modes))
        if max(stride) == 1 and data.draw(st.booleans()):
            options["padding"] = "same"
            options["padding_mode"] = "zeros"
    layer = kind(2 * groups, data.draw(st.integers(1, 2)) * groups, kernel, **options)
    sizes = each(5, 7) if space < 3 else each(5, 6)
    check(
        Around(layer).to(dtype),
        drawn((2 * groups, *sizes), dtype),
        samples_per_gradient,
        ["layer.weight", "layer.bias"],
    )


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("outputs", [2, 64])
def test_windows_of_many_channels(stride, dilation, outputs):
    """Wide enough to be multiplied slice by slice with few outputs, and whole with many."""
    layer = nn.Conv2d(32, outputs, 3, stride=(stride, 1), dilation=(dilation, 2), padding=1)
    check(Around(layer), drawn((32, 9, 7), torch.float32), 2, ["layer.weight"])


@many
@given(gradient_sizes, types, st.booleans(), st.sampled_from([None, 2]))
def test_embeddings(samples_per_gradient, dtype, first, padding):
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(5, 3, padding_idx=padding)
            self.head = nn.Linear(3, 5, bias=False)
            if not first:
                self.head.weight = self.words.weight  # tied

        def forward(self, x):
            return self.head(torch.tanh(self.words(x))).mean(1)

    targets = ["words.weight"]
    check(Words().to(dtype), torch.randint(5, (COUNT, 3)), samples_per_gradient, targets)


NORMS = {
    "layer": (lambda: nn.LayerNorm((3, 4)), (2, 3, 4)),
    "rms": (lambda: nn.RMSNorm(4), (2, 4)),
    "group": (lambda: nn.GroupNorm(2, 4), (4, 3)),
    "batch 1d": (lambda: nn.BatchNorm1d(4), (4,)),
    "batch 1d, positions": (lambda: nn.BatchNorm1d(4), (4, 3)),
    "batch 2d": (lambda: nn.BatchNorm2d(2), (2, 3, 3)),
    "batch 3d": (lambda: nn.BatchNorm3d(2), (2, 2, 2, 2)),
}


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("samples_per_gradient", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_norms(name, samples_per_gradient, dtype):
    make, shape = NORMS[name]
    layer = make()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
        for buffer in layer.buffers():
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 2)
    targets = [f"layer.{name}" for name, _ in layer.named_parameters()]
    check(Around(layer).to(dtype).eval(), drawn(shape, dtype), samples_per_gradient, targets)


def test_bilinear_and_conv1d_of_hugging_face():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Bilinear(3, 3, 2)

        def forward(self, x):
            return self.layer(x, x.square())

    check(Pair().double(), drawn((2, 3), torch.float64), 2, ["layer.weight", "layer.bias"])
    layer = Around(Conv1D(5, 3)).double()
    check(layer, drawn((2, 3), torch.float64), 2, ["layer.weight", "layer.bias"])


def test_every_type_of_the_table_is_met_above():
    met = {nn.Linear, nn.Bilinear, nn.Embedding, nn.LayerNorm, nn.RMSNorm, nn.GroupNorm}
    met |= {nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.Conv1d, nn.Conv2d, nn.Conv3d}
    met |= {nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d}
    assert met == set(RULES)


class Own(nn.Linear):
    """A subclass with a forward pass of its own."""

    def forward(self, x):
        return super().forward(x.flip(-1))


@pytest.mark.parametrize(
    "module", [nn.ReLU(), Own(2, 2), nn.Embedding(3, 2, max_norm=1.0), nn.LSTM(2, 2)]
)
def test_what_has_no_rule(module):
    assert rule_of(module) is None


class Mixed(nn.Module):
    """A rule for one weight, none for the other, and one used past its module."""

    def __init__(self):
        super().__init__()
        self.own, self.past, self.fc = Own(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(torch.tanh(self.own(x)) + functional.linear(x, self.past.weight))


@pytest.mark.parametrize("samples_per_gradient", [1, 2])
def test_the_choice_is_made_for_each_module(samples_per_gradient):
    model = Mixed().double()
    layout = prunable_layout(model)
    examples = Examples((torch.randn(6, 4).double(), torch.randint(3, (6,))))
    expected = rows_of(
        model, layout, examples, samples_per_gradient=samples_per_gradient, fastest="loop"
    )
    found = collect_gradients(model, layout, examples, samples_per_gradient=samples_per_gradient)
    assert found.backends == {"own.weight": "vmap", "past.weight": "vmap", "fc.weight": "rule"}
    index = torch.arange(layout.size)
    assert torch.allclose(found.rows.gather(index), expected.gather(index), atol=1e-12)


class Viewing(nn.Module):
    """A view that only activations with channels first allow."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 3, 3), nn.Linear(27, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).view(len(x), -1))


@pytest.mark.parametrize("samples_per_gradient", [1, 2])
def test_a_network_that_needs_its_channels_first_has_them_so(samples_per_gradient):
    model = Viewing().double()
    layout = prunable_layout(model)
    examples = Examples((torch.randn(6, 2, 5, 5).double(), torch.randint(3, (6,))))
    expected = rows_of(
        model, layout, examples, samples_per_gradient=samples_per_gradient, fastest="loop"
    )
    found = collect_gradients(
        model, layout, examples, samples_per_gradient=samples_per_gradient, fastest="rule"
    )
    assert set(found.backends.values()) == {"rule"}
    index = torch.arange(layout.size)
    assert torch.allclose(found.rows.gather(index), expected.gather(index), atol=1e-12)


class AcrossTheBatch(nn.Module):
    """Rows that see each other where a batch holds several."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        y = self.fc(x)
        return y - y.mean(0, keepdim=True) + y.square()


def test_a_network_that_mixes_its_batch_is_run_row_by_row():
    model = AcrossTheBatch().double()
    layout = prunable_layout(model)
    examples = Examples((torch.randn(6, 4).double(), torch.randint(3, (6,))))
    expected = rows_of(model, layout, examples, samples_per_gradient=2, fastest="loop")
    found = collect_gradients(model, layout, examples, samples_per_gradient=2)
    assert found.backends == {"fc.weight": "vmap"}
    index = torch.arange(layout.size)
    assert torch.allclose(found.rows.gather(index), expected.gather(index), atol=1e-12)


def wide():
    return nn.Sequential(nn.Linear(20, 30), nn.Tanh(), nn.Linear(30, 20)).double()


@pytest.mark.parametrize(("samples_per_gradient", "backend"), [(1, "factored"), (2, "rule")])
def test_a_layer_that_sees_one_position_per_row_is_factored(samples_per_gradient, backend):
    model = wide()
    layout = prunable_layout(model)
    examples = Examples((torch.randn(6, 20).double(), torch.randint(20, (6,))))
    expected = rows_of(
        model, layout, examples, samples_per_gradient=samples_per_gradient, fastest="loop"
    )
    found = collect_gradients(model, layout, examples, samples_per_gradient=samples_per_gradient)
    assert found.backends == dict.fromkeys(layout.names, backend)
    assert isinstance(found.rows, HStackRows) == (backend == "factored")
    index = torch.arange(layout.size)
    assert torch.allclose(found.rows.gather(index), expected.gather(index), atol=1e-12)


def test_one_with_several_positions_is_not():
    model = nn.Sequential(wide(), nn.Flatten(), nn.Linear(40, 20)).double()
    layout = prunable_layout(model)
    examples = Examples((torch.randn(6, 2, 20).double(), torch.randint(20, (6,))))
    found = collect_gradients(model, layout, examples)
    assert list(found.backends.values()) == ["rule", "rule", "factored"]


class OftenInLargeBatches(nn.Module):
    """Calls a layer a second time, to no effect, where a batch is larger than a probe."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(20, 20)

    def forward(self, x):
        y = self.fc(x)
        return y + 0 * self.fc(x) if len(x) > 3 else y


def test_factors_are_given_up_where_a_layer_is_called_more_often_later():
    model = OftenInLargeBatches().double()
    layout = prunable_layout(model)
    examples = Examples((torch.randn(9, 20).double(), torch.randint(20, (9,))))
    expected = rows_of(model, layout, examples, fastest="loop")
    found = collect_gradients(model, layout, examples)
    assert found.backends == {"fc.weight": "rule"}
    index = torch.arange(layout.size)
    assert torch.allclose(found.rows.gather(index), expected.gather(index), atol=1e-12)


def test_nothing_of_a_batch_stays_in_memory():
    """Without waiting for cycles to be collected, which those through autograd may never be."""
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh())
    examples = Examples((torch.randn(6, 4), torch.randint(3, (6,))))
    gc.collect()
    gc.disable()
    try:
        found = collect_gradients(model, prunable_layout(model), examples)
        left = [thing for thing in gc.get_objects() if type(thing) is batched._CallRecorder]
    finally:
        gc.enable()
    assert found.backends == {"0.weight": "rule"}
    assert not left


def test_what_a_weight_was_used_on_is_let_go_once_it_is_given():
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    given = []

    def take(name, uses, rows):
        assert all(there() is None for there in given), name
        given.extend([weakref.ref(uses[0].delta), weakref.ref(uses[0].inputs)])

    backward = batched.BatchedBackward(model, LOSSES["cross_entropy"], ["2.weight", "0.weight"], 1)
    backward.run((torch.randn(6, 4), torch.randint(2, (6,))), take)
    assert len(given) == 4
