"""Encoders are watched layer by layer: PyTorch's fast path is off, and on again afterwards."""

import pytest
import torch
from torch import nn

import chita
from chita.collect.cost import sample_cost
from chita.losses import LOSSES
from chita.models.forward import hooked

PADDED = (torch.arange(6) >= 4) & (torch.arange(60) % 2 == 0).unsqueeze(1)
X = torch.randn(60, 6, 16, generator=torch.Generator().manual_seed(0))
DATA = (X, PADDED), torch.arange(60) % 5
OUTSIDE = ["re:.*self_attn"]


class Encoder(nn.Module):
    def __init__(self, *, packs):
        super().__init__()
        torch.manual_seed(1)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=packs)
        self.head = nn.Linear(16, 5)

    def forward(self, x, padded):
        kept = (~padded).unsqueeze(-1)
        outputs = self.encoder(x, src_key_padding_mask=padded) * kept
        return self.head(outputs.sum(1) / kept.sum(1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x, padded):
        y, _ = self.attention(x, x, x, key_padding_mask=padded, need_weights=False)
        return self.head(y.mean(1))


@pytest.mark.filterwarnings("ignore:.*nested tensors")
@pytest.mark.parametrize(
    "asked",
    [
        {"solver": "alps", "sparsity": 0.6, "ignore": OUTSIDE},
        {"solver": "alps", "budget": chita.ByOutliers(0.6), "ignore": OUTSIDE},
        {"solver": "magnitude", "budget": "flops=0.5 & sparsity=0.5"},
        {"solver": "obd", "sparsity": 0.6, "loss": "cross_entropy"},
    ],
    ids=["layers", "outliers", "flops", "gradients"],
)
def test_packed_inputs_change_nothing(asked):
    expected, found = (
        chita.prune(Encoder(packs=packs), DATA, fisher=chita.Fisher(samples=24), **asked)
        for packs in (False, True)
    )
    for name, mask in expected.masks.items():
        assert torch.equal(found.masks[name], mask), name
    assert found.record.flops == expected.record.flops is not None


@pytest.mark.filterwarnings("ignore:.*nested tensors")
def test_costs_and_benchmarks_see_the_layers_of_an_encoder():
    packed, plain = Encoder(packs=True).eval(), Encoder(packs=False).eval()
    sample = (X[:1], PADDED[:1]), DATA[1][:1]
    costs = [sample_cost(m, LOSSES["cross_entropy"], sample) for m in (packed, plain)]
    assert costs[0] == costs[1] is not None
    planned = [chita.plan(m, DATA, budget="flops=0.5 & sparsity=0.5").kept for m in (packed, plain)]
    assert planned[0] == planned[1]
    inputs = X[:4], PADDED[:4]
    measured = chita.benchmark(packed, packed, inputs, runtimes=["torch"], seconds=0.01)
    assert "encoder.layers.1.linear2" in [layer.name for layer in measured.layers]


def test_attention_by_itself_shows_its_products():
    cost = sample_cost(
        Attention().eval(), LOSSES["cross_entropy"], ((X[:1], PADDED[:1]), DATA[1][:1])
    )
    assert {"attention.in_proj_weight", "attention.out_proj.weight"} <= cost.by_weight.keys()


def test_the_setting_is_as_before_after_a_failure():
    def failing():
        with hooked([]):
            assert not torch.backends.mha.get_fastpath_enabled()
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert torch.backends.mha.get_fastpath_enabled()
