import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune

from chita.errors import CheckpointError, InputError
from chita.models.checkpoint import load, load_weights
from chita.models.paper import key_map
from chita.models.paper.mlpnet import MLPNet
from chita.models.zoo import MODELS, load_model, load_network
from tests.networks import LanguageModel


def in_the_wild():
    tensors = {}
    for name, value in MLPNet().state_dict().items():
        layer = name.removesuffix(".weight")
        tensors[f"module.{layer}._layer.weight"] = value
        tensors[f"module.{layer}._weight_mask"] = torch.ones_like(value)
    return tensors


@pytest.mark.parametrize("envelope", [None, "state_dict", "model_state_dict", "model"])
def test_plain_torch_files_and_their_envelopes(tmp_path, envelope):
    state = MLPNet().state_dict()
    path = tmp_path / "weights.pth"
    torch.save({"epoch": 3, envelope: state} if envelope else state, path)
    assert all(torch.equal(load(path)[name], state[name]) for name in state)


def test_safetensors_whatever_the_suffix_and_run_folders(tmp_path):
    state = MLPNet().state_dict()
    for name in ("model.safetensors", "weights.bin"):
        save_file(state, tmp_path / name)
        assert load(tmp_path / name).keys() == state.keys()
    assert load(tmp_path).keys() == state.keys()


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_does_not_run_unless_asked_for(tmp_path):
    path, trace = tmp_path / "hostile.pth", tmp_path / "ran"
    torch.save({"state_dict": MLPNet().state_dict(), "x": Hostile(trace)}, path)
    with pytest.raises(CheckpointError, match=r"would run code.*`allow_pickle`"):
        load(path)
    assert not trace.exists()
    assert len(load(path, allow_pickle=True)) == 3
    assert trace.exists()
    bare = tmp_path / "bare.pkl"
    bare.write_bytes(pickle.dumps(Hostile(tmp_path / "ran2")))
    with pytest.raises(CheckpointError):
        load(bare)
    assert not (tmp_path / "ran2").exists()


def test_a_pickle_of_a_package_that_is_absent_names_it(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"cabsent_package\nThing\n.")
    with pytest.raises(CheckpointError, match="`allow_pickle`"):
        load(tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match=r"absent_package.*Install it"):
        load(tmp_path / "w.pth", allow_pickle=True)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load(tmp_path / "absent.pth")
    for name in ("broken.safetensors", "broken.pth", "empty.pth"):
        (tmp_path / name).write_bytes(b"" if "empty" in name else b"not a checkpoint at all")
        with pytest.raises(CheckpointError, match=name):
            load(tmp_path / name)
    for content in (b"hello world", b"<html></html>", b"a", b"q", b"{}"):
        (tmp_path / "junk.pth").write_bytes(content)
        for allow_pickle in (False, True):
            with pytest.raises(CheckpointError, match="neither a safetensors nor"):
                load(tmp_path / "junk.pth", allow_pickle=allow_pickle)
    save_file(MLPNet().state_dict(), tmp_path / "cut.safetensors")
    whole = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:-100])
    with pytest.raises(CheckpointError, match="cut"):
        load(tmp_path / "cut.safetensors")
    torch.save({"epoch": 3}, tmp_path / "none.pth")
    with pytest.raises(CheckpointError, match="no named tensors"):
        load(tmp_path / "none.pth")


def test_the_key_map_says_what_it_drops():
    model, tensors = MLPNet(), in_the_wild()
    dropped = load_weights(model, tensors, key_map=key_map)
    assert dropped == tuple(f"module.fc{i}._weight_mask" for i in (1, 2, 3))
    assert torch.equal(model.fc2.weight, tensors["module.fc2._layer.weight"])


def test_every_fault_at_once_and_the_network_unchanged():
    model, tensors = MLPNet(), in_the_wild()
    before = model.fc1.weight.clone()
    del tensors["module.fc2._layer.weight"]
    tensors["module.fc3._layer.weight"] = torch.zeros(3, 3)
    tensors["module.fc1.bias"] = torch.zeros(40)
    tensors["fc1.weight"] = torch.zeros(40, 784)
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, tensors, key_map=key_map)
    for fault in (
        "fc2.weight: missing",
        "fc3.weight: shape (3, 3), the network has (10, 20)",
        "fc1.bias: not in the network",
        "fc1.weight: a second tensor",
    ):
        assert fault in str(caught.value)
    assert torch.equal(model.fc1.weight, before)


def test_weights_that_are_not_finite_are_refused():
    tensors = dict(MLPNet().state_dict())
    tensors["fc1.weight"] = torch.full((40, 784), float("nan"))
    with pytest.raises(CheckpointError, match=r"fc1.weight: NaN"):
        load_weights(MLPNet(), tensors)


def test_a_batch_count_may_be_absent():
    model = nn.BatchNorm1d(3)
    state = dict(model.state_dict())
    del state["num_batches_tracked"]
    assert load_weights(model, state) == ()


def test_named_models():
    for name, spec in MODELS.items():
        if spec.bundled:
            assert not load_model(name).training
    with pytest.raises(CheckpointError, match="`weights`"):
        load_model("mlpnet")
    with pytest.raises(InputError, match="Did you mean digits-mlp"):
        load_model("digit-mlp")


@pytest.mark.data
def test_the_original_pickle(data_dir):
    path = data_dir / "checkpoints" / "mnist_25_epoch_93.97.ckpt"
    with pytest.raises(CheckpointError, match="`allow_pickle`"):
        load_model("mlpnet", path)
    original, dropped = load_network("mlpnet", path, allow_pickle=True)
    converted, nothing = load_network(
        "mlpnet", data_dir / "checkpoints" / "mlpnet_mnist.safetensors"
    )
    assert len(dropped) == 3
    assert nothing == ()
    assert all(
        torch.equal(a, b)
        for a, b in zip(original.parameters(), converted.parameters(), strict=True)
    )


def test_prefixes_of_wrappers_are_taken_off():
    state = MLPNet().state_dict()
    for prefix in ("module.", "_orig_mod.", "module._orig_mod."):
        model = MLPNet()
        load_weights(model, {f"{prefix}{name}": value for name, value in state.items()})
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    wrapped = nn.ModuleDict({"module": nn.Linear(2, 2)})  # a module of that very name
    load_weights(wrapped, wrapped.state_dict())


def test_a_weight_that_torch_pruned_is_the_product_of_its_parts():
    model = nn.Sequential(nn.Linear(3, 4))
    prune.random_unstructured(model[0], "weight", 0.5)
    fresh = nn.Sequential(nn.Linear(3, 4))
    load_weights(fresh, model.state_dict())
    assert torch.equal(fresh[0].weight, model[0].weight)
    assert int((fresh[0].weight == 0).sum()) == 6


def test_a_tied_tensor_may_be_stored_once():
    model = LanguageModel()
    stored = {"embed.weight": torch.ones(5, 4)}
    load_weights(model, stored)
    assert bool((model.head.weight == 1).all())
    with pytest.raises(CheckpointError, match=r"embed\.weight: missing; head\.weight: missing"):
        load_weights(LanguageModel(), {})


def test_buffers_may_hold_infinities_but_weights_may_not():
    model = nn.Linear(2, 2)
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    load_weights(model, model.state_dict())
    for name in ("mask", "weight"):
        state = {key: value.clone() for key, value in model.state_dict().items()}
        state[name].view(-1)[0] = torch.nan if name == "mask" else torch.inf
        with pytest.raises(CheckpointError, match=f"{name}: NaN or infinite"):
            load_weights(model, state)
