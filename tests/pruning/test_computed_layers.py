"""Layer by layer, a layer is what it computes: where that is not Wx + b, it is left dense."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import chita
from chita.collect.plain_layer import plain_layer

PLAIN = "computes something else than Wx + b"


class Cosine(nn.Linear):
    def forward(self, x):
        return 10 * functional.linear(functional.normalize(x), functional.normalize(self.weight))


class Standardised(nn.Conv2d):
    def forward(self, x):
        mean, std = self.weight.mean((1, 2, 3), True), self.weight.std((1, 2, 3), keepdim=True)
        return self._conv_forward(x, (self.weight - mean) / std, self.bias)


class Masked(nn.Linear):
    def forward(self, x):
        return functional.linear(x, self.weight.tril(), self.bias)


class Residual(nn.Linear):
    def forward(self, x):
        return super().forward(x) + 0.05 * x


class Tokens(nn.Linear):
    """It takes (inputs first) what others take last."""

    def forward(self, x):
        return super().forward(x.mT).mT


class Pair(nn.Linear):
    def forward(self, pair):
        return super().forward(pair[0])


class Padded(nn.Conv2d):
    def forward(self, x):
        return super().forward(functional.pad(x, (1, 1, 1, 1)))


class First(nn.Module):
    def forward(self, x):
        return x, x


OTHERS = {
    "cosine": (nn.Sequential(Cosine(12, 24), nn.Linear(24, 5)), (12,)),
    "standardised": (
        nn.Sequential(Standardised(1, 4, 3), nn.Flatten(), nn.Linear(16, 5)),
        (1, 4, 4),
    ),
    "masked": (nn.Sequential(Masked(12, 12), nn.Linear(12, 5)), (12,)),
    "residual": (nn.Sequential(Residual(12, 12), nn.Linear(12, 5)), (12,)),
    "other dimension": (
        nn.Sequential(Tokens(6, 8), nn.Flatten(), nn.Linear(24, 5)),
        (6, 3),
    ),
    "no tensor": (nn.Sequential(First(), Pair(12, 12), nn.Linear(12, 5)), (12,)),
    "padded": (nn.Sequential(Padded(1, 4, 3), nn.Flatten(), nn.Linear(64, 5)), (1, 4, 4)),
}


class Own(nn.Linear):
    """It computes Wx + b in its own way."""

    def forward(self, x):
        y = x @ self.weight.T
        x.zero_()  # what it was given is its own
        return y + self.bias


class Cast(nn.Linear):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x).float()


class Wide(nn.Linear):
    def forward(self, x):
        return functional.linear(x.double(), self.weight.double(), self.bias.double()).float()


def pruned(network, shape, **options):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(96, *shape, generator=generator) * 3
    data = x, torch.arange(96) % 5
    options = {"solver": "alps", "sparsity": 0.6, **options}
    result = chita.prune(network, data, fisher=chita.Fisher(samples=96), **options)
    return result, x


@pytest.mark.parametrize("budget", [{"sparsity": 0.6}, {"budget": chita.ByOutliers(0.6)}])
@pytest.mark.parametrize("name", OTHERS)
def test_a_layer_that_computes_something_else_is_left_dense_with_the_reason(name, budget):
    torch.manual_seed(0)
    network, shape = OTHERS[name]
    result, _ = pruned(network, shape, **{"sparsity": None, **budget})
    other, plain = result.record.layers
    assert other.solved.skipped == PLAIN
    assert other.kept == other.weights
    assert torch.equal(result.model.get_parameter(other.name), network.get_parameter(other.name))
    assert plain.solved.skipped is None
    assert plain.kept < plain.weights


@pytest.mark.parametrize("kind", [Own, Cast, Wide])
def test_a_subclass_that_computes_it_is_pruned_and_its_error_is_that_of_its_outputs(kind):
    torch.manual_seed(0)
    network = nn.Sequential(kind(12, 24), nn.ReLU(), nn.Linear(24, 5))
    with torch.no_grad():
        network[0].bias.mul_(10)  # a large bias hides nothing, and counts for nothing
    result, x = pruned(network, (12,))
    layer = result.record.layers[0]
    assert layer.solved.skipped is None
    with torch.no_grad():
        dense, changed = (x @ weight.T for weight in (network[0].weight, result.model[0].weight))
    true = float((dense - changed).square().sum() / dense.square().sum())
    assert layer.solved.error == pytest.approx(true, rel=1e-3)


def test_a_large_bias_hides_no_other_product():
    torch.manual_seed(0)
    network = nn.Sequential(Masked(12, 12), nn.Linear(12, 5))
    with torch.no_grad():
        network[0].bias.fill_(1e4)
    assert pruned(network, (12,))[0].record.layers[0].solved.skipped == PLAIN


def test_a_layer_that_changes_from_call_to_call():
    class Moody(nn.Linear):
        calls = 0

        def forward(self, x):
            self.calls += 1
            return super().forward(x) * (1 if self.calls < 3 else 2)

    torch.manual_seed(0)
    network = nn.Sequential(Moody(12, 24), nn.Linear(24, 5))
    assert pruned(network, (12,))[0].record.layers[0].solved.skipped == PLAIN


@pytest.mark.parametrize(("off", "is_plain"), [(0.0, True), (1e-5, False)])
def test_what_is_left_where_products_cancel_is_rounding(off, is_plain):
    """Both halves of the inputs cancel, to zero or to rounding: no output tells how they do."""

    class Halves(nn.Linear):
        def forward(self, x):
            left, right = (a @ b.T for a, b in zip(x.chunk(2, 1), weight.chunk(2, 1), strict=True))
            return left + right + off * x.norm() * weight.norm()

    torch.manual_seed(0)
    layer, x = Halves(64, 8, bias=False), torch.randn(16, 32)
    weight = layer.weight
    with torch.no_grad():
        weight[:, 32:] = weight[:, :32]
        x = torch.cat([x, -x], 1)
        assert plain_layer(layer, x)(layer(x)) is is_plain


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular", groups=2), (2, 4, 4)),
        (nn.Conv1d(2, 4, 3, stride=2, dilation=2, bias=False), (2, 12)),
        (nn.Linear(6, 4), (3, 6)),
    ],
)
def test_plain_layers_are_pruned_as_before(layer, shape):
    network = nn.Sequential(layer, nn.Flatten(), nn.LazyLinear(5))
    network(torch.zeros(1, *shape))
    result, _ = pruned(network, shape)
    assert [found.solved.skipped for found in result.record.layers] == [None, None]
