"""The networks of the papers' benchmarks: their numbers of prunable weights, and what they give."""

import pytest
import torch

from chita.models.prunable import prunable_layout
from chita.models.zoo import MODELS

COUNTS = {
    "mlpnet": 32_360,
    "resnet20": 268_336 + 2_560,  # the papers leave the shortcuts out
    "resnet50": 25_502_912,
    "mobilenet-v1": 4_209_088,
}


def on_meta(name):
    with torch.device("meta"):
        return MODELS[name].build().eval()


@pytest.mark.parametrize("name", COUNTS)
def test_as_many_weights_as_in_the_papers(name):
    with torch.device("meta"):
        model = MODELS[name].build()
    prunable = {type(m) for m in model.modules()} & {torch.nn.Conv2d, torch.nn.Linear}
    counted = sum(m.weight.numel() for m in model.modules() if type(m) in prunable)
    assert counted == COUNTS[name]


def test_the_layout_holds_them():
    assert prunable_layout(MODELS["mobilenet-v1"].build()).size == COUNTS["mobilenet-v1"]


@pytest.mark.parametrize(("name", "size"), [("resnet50", 224), ("mobilenet-v1", 224)])
def test_thousand_logits_come_out(name, size):
    assert on_meta(name)(torch.zeros(2, 3, size, size, device="meta")).shape == (2, 1000)


def test_the_papers_leave_out_what_the_shortcuts_of_resnet50_hold():
    state = on_meta("resnet50").state_dict()
    kept = [v for n, v in state.items() if v.ndim > 1 and "downsample" not in n]
    assert sum(v.numel() for v in kept) == 22_734_016
