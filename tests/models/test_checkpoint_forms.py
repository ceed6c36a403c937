"""Checkpoints as trainers write them: entries, prefixes, several names, and what cannot be read."""

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from chita.errors import CheckpointError
from chita.masks.fit import read_masks
from chita.models.checkpoint import load, load_weights
from chita.models.stored import read_stored, write_stored
from tests.networks import LanguageModel


def network(seed=1):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


STATE = network().state_dict()
ADAM = torch.optim.Adam([nn.Parameter(torch.ones(2))])
ADAM.param_groups[0]["params"][0].sum().backward()
ADAM.step()
PREFIXED = {f"net.{name}": tensor for name, tensor in STATE.items()}
PARTS = {i: {"weight": STATE[f"{i}.weight"], "bias": STATE[f"{i}.bias"]} for i in "01"}


@pytest.mark.parametrize(
    ("content", "dropped"),
    [
        ({"module": STATE, "epoch": 3}, ()),
        ({"model_state": STATE, "optimizer": ADAM.state_dict()}, ()),
        ({"model": {"net": STATE}}, ()),
        ({"net": STATE, "rng": torch.get_rng_state()}, ("rng",)),
        ({"parts": PARTS}, ()),
        ({"state_dict": {**PREFIXED, "criterion.weight": torch.ones(3)}}, ("criterion.weight",)),
        ({"state_dict": {**PREFIXED, "0._extra_state": {"scale": torch.ones(1)}}}, ()),
    ],
    ids=["module", "model_state", "two entries", "net", "parts", "lightning", "extra state"],
)
def test_entries_and_prefixes_around_a_network(tmp_path, content, dropped):
    torch.save(content, tmp_path / "w.pt")
    model = network(seed=2)
    assert load_weights(model, load(tmp_path / "w.pt")) == dropped
    assert all(torch.equal(value, STATE[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("entries", [("net", "ema"), ("net.", "ema.")])
def test_two_networks_are_named(tmp_path, entries):
    if entries[0].endswith("."):
        content = {f"{entry}{name}": t for entry in entries for name, t in STATE.items()}
    else:
        content = dict.fromkeys(entries, STATE)
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"several prefixes: ema\., net\."):
        load_weights(network(), load(tmp_path / "w.pt"))


def test_what_was_found_in_place_of_tensors_is_named(tmp_path):
    torch.save({"epoch": 3, "history": [1.0]}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"but epoch \(int\), history \(list\)\. Give"):
        load(tmp_path / "w.pt")


def test_a_missing_tensor_behind_a_prefix_is_the_only_fault():
    state = {name: tensor for name, tensor in PREFIXED.items() if name != "net.1.bias"}
    with pytest.raises(CheckpointError, match=r"fit Sequential: 1\.bias: missing\. Give"):
        load_weights(network(), state)


def test_two_values_of_one_tensor_are_refused():
    model = LanguageModel()
    before = model.head.weight.clone()
    state = {"embed.weight": torch.ones(5, 4), "head.weight": torch.zeros(5, 4)}
    with pytest.raises(CheckpointError, match=r"embed\.weight and head\.weight: one tensor"):
        load_weights(model, state)
    assert torch.equal(model.head.weight, before)
    load_weights(model, {"embed.weight": torch.ones(5, 4), "head.weight": torch.ones(5, 4)})
    load_weights(model, {"net.embed.weight": torch.zeros(5, 4)})
    assert not model.head.weight.any()


def test_zeros_that_differ_by_name_are_no_mask(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    torch.save({"0.weight": torch.eye(4), "1.weight": torch.ones(4, 4)}, tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"0\.weight and 1\.weight are one tensor"):
        read_masks(tmp_path / "w.pt", model)
    for layer, amount in zip(model, (0.25, 0.5), strict=True):
        prune.random_unstructured(layer, "weight", amount)
    plain = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    plain[1].weight = plain[0].weight
    with pytest.raises(CheckpointError, match=r"0\.weight and 1\.weight: one tensor"):
        load_weights(plain, model.state_dict())


class Renamed(nn.Module):
    """Its state dict has other names than it loads."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(3, 2)

    def state_dict(self, *args, **kwargs):
        state = super().state_dict(*args, **kwargs)
        return {name.removeprefix("net."): tensor for name, tensor in state.items()}


def test_a_network_that_loads_nothing_says_so():
    with pytest.raises(CheckpointError, match=r"does not hold the values .*: weight, bias\."):
        load_weights(Renamed(), nn.Linear(3, 2).state_dict())


class Viewed(nn.Module):
    """A parameter that is a part of another, and one that is another turned."""

    def __init__(self):
        super().__init__()
        self.whole = nn.Parameter(torch.randn(6, 4))
        self.part = nn.Parameter(self.whole.detach()[:3])
        self.turned = nn.Parameter(self.whole.detach().t())


def test_views_are_tensors_of_their_own_in_files(tmp_path):
    model, fresh = Viewed(), Viewed()
    write_stored(model.state_dict(), tmp_path / "w.safetensors")
    stored = read_stored(tmp_path / "w.safetensors")
    load_weights(fresh, stored)
    assert torch.equal(fresh.whole, model.whole)
    with pytest.raises(CheckpointError, match=r"whole: missing; turned: missing"):
        load_weights(fresh, {"part": stored["part"]})
    with pytest.raises(CheckpointError, match="parameters share memory"):
        load_weights(fresh, {**stored, "turned": stored["turned"] + 1})


def test_float8_is_loaded():
    model = nn.Linear(3, 2, bias=False)
    model.weight = nn.Parameter(torch.ones(2, 3).to(torch.float8_e4m3fn), requires_grad=False)
    state = {"weight": torch.full((2, 3), 2.0).to(torch.float8_e4m3fn)}
    load_weights(model, state)
    assert torch.equal(model.weight.float(), torch.full((2, 3), 2.0))


SHARDED = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
weight = distribute_tensor(torch.ones(4, 4), init_device_mesh("cpu", (1,)), [Shard(0)])
torch.save({"weight": weight}, sys.argv[1])
from chita.errors import CheckpointError
from chita.models.checkpoint import load
try:
    load(sys.argv[1])
except CheckpointError as error:
    print(error)
"""


@pytest.mark.integration
def test_sharded_tensors_are_refused_by_name(tmp_path):
    path = str(tmp_path / "w.pt")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SHARDED, path],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sharded (DTensor) or without values: weight. Save" in done.stdout
    if "torch.distributed.tensor" not in sys.modules:
        with pytest.raises(CheckpointError, match=r"holds sharded tensors \(DTensor\)"):
            load(path)
