"""`verify` finds what others did to a pruned network."""

import json
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import chita
from chita.errors import CheckpointError, ChitaError, InputError
from chita.exports.table import KINDS
from chita.exports.verify import verify
from chita.masks.storage import load_masks, save_masks
from tests.networks import LanguageModel
from tests.program import chita as invoke


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.Flatten(), nn.Linear(32, 8))


def written(path, sparsity):
    chita.prune(network(), solver="magnitude", sparsity=sparsity).save(path)
    return path


def changed(path, name, value):
    state = load_file(path / "model.safetensors")
    state[name].view(-1)[(state[name].view(-1) == 0).nonzero()[0]] = value
    save_file(state, path / "model.safetensors")


def test_what_was_written_is_as_it_should_be(tmp_path):
    found = verify(written(tmp_path / "run", sparsity=0.8))
    assert not found.faults
    assert found.checked == ("zeros", "counts", "hashes")
    assert (found.tensors, found.kept, found.kept + found.removed) == (2, 80, 400)


def test_a_zero_that_was_refilled_is_named(tmp_path):
    run = written(tmp_path / "run", sparsity=0.8)
    changed(run, "2.weight", 1e-30)
    faults = verify(run).faults
    assert len(faults) == 2
    assert faults[0].startswith("2.weight: 1 of ")
    assert "model.safetensors is not the file" in faults[1]
    changed(run, "0.weight", float("nan"))
    assert len(verify(run).faults) == 3


def test_masks_that_were_changed_are_told_from_the_record_and_the_hash(tmp_path):
    run = written(tmp_path / "run", sparsity=0.8)
    masks = load_masks(run / "masks.safetensors")
    masks["2.weight"] |= True
    save_masks(masks, run / "masks.safetensors")
    faults = " ".join(verify(run).faults)
    assert "2.weight: the mask keeps 256" in faults
    assert "the record says 80" in faults
    assert "masks.safetensors is not the file" in faults


@pytest.mark.parametrize("budget", ["2:4", "4x1 & sparsity=0.5"])
def test_a_broken_pattern_is_named_even_where_counts_hold(tmp_path, budget):
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=2), nn.Flatten(), nn.Linear(32, 8))
    run = tmp_path / "run"
    chita.prune(model, solver="magnitude", budget=budget).save(run)
    assert verify(run).checked[-1] == "pattern"
    assert not verify(run).faults
    masks = load_masks(run / "masks.safetensors")
    flat = masks["0.weight"].view(-1)
    first, second = flat.nonzero()[0], (~flat).nonzero()[-1]
    flat[first], flat[second] = False, True
    save_masks(masks, run / "masks.safetensors")
    told = " ".join(verify(run).faults)
    assert "0.weight: the mask is not " in told
    assert "keeps" not in told


def test_files_that_are_gone_are_named(tmp_path):
    run = written(tmp_path / "run", sparsity=0.8)
    (run / "SHA256SUMS").unlink()
    assert "it is unknown whether files were changed" in verify(run).faults[0]


def test_a_checkpoint_trained_further_is_checked_by_the_masks_of_its_run(tmp_path):
    run = written(tmp_path / "run", sparsity=0.8)
    state = {f"module.{name}": 2 * t for name, t in load_file(run / "model.safetensors").items()}
    torch.save({"state_dict": state}, tmp_path / "further.pt")
    found = verify(tmp_path / "further.pt", run)
    assert not found.faults
    assert found.checked == ("zeros",)
    state["module.2.weight"] += 1
    torch.save(state, tmp_path / "refilled.pt")
    assert verify(tmp_path / "refilled.pt", run / "masks.safetensors").faults


def test_a_tied_tensor_is_checked_under_all_of_its_names(tmp_path):
    model = LanguageModel()
    result = chita.prune(model, solver="magnitude", sparsity=0.5, targets="head")
    result.save(tmp_path / "run")
    state = {name: tensor.clone() for name, tensor in result.model.state_dict().items()}
    path = tmp_path / "w.pt"
    for some in (
        state,
        {"embed.weight": state["embed.weight"]},
        {"net.head.weight": state["head.weight"]},
    ):
        torch.save(some, path)
        assert not verify(path, tmp_path / "run").faults
        for name, tensor in some.items():
            torch.save({**some, name: tensor + 1}, path)
            (fault,) = verify(path, tmp_path / "run").faults
            assert fault.startswith(f"{name.removeprefix('net.')}: 10 of 10 removed")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("net.onnx", "is an ONNX graph"),
        ("net.mnn", "is a graph of MNN"),
        ("net.xml", "is a graph of OpenVINO"),
        ("net.bin", "is the weights of a graph of OpenVINO"),
        ("net.gguf", "is a GGUF file"),
        ("net.pt", "is a TorchScript archive"),
    ],
)
def test_files_of_other_programs_are_told_for_what_they_are(tmp_path, name, told):
    network, path = chita.load_model("digits-mlp"), tmp_path / name
    result = chita.prune(network, sparsity=0.8, solver="magnitude")
    result.save(tmp_path / "run")
    if path.suffix == ".gguf":
        path.write_bytes(b"GGUF" + bytes(64))
    elif path.suffix == ".pt":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)
    else:
        kind = {".onnx": "onnx", ".mnn": "mnn"}.get(path.suffix, "openvino")
        result.export(path.with_suffix(KINDS[kind].suffix), kind, inputs=torch.randn(2, 64))
    assert path.is_file()
    read = (
        lambda: verify(path, tmp_path / "run"),
        lambda: verify(path),
        lambda: chita.load(path),
        lambda: chita.load_model("digits-mlp", path),
        lambda: chita.load_model(str(path)),
        lambda: chita.apply_masks(network, path),
    )
    for attempt in read:
        with pytest.raises(ChitaError, match=told) as refused:
            attempt()
        assert str(path) in str(refused.value)
        assert "Give the run folder" in str(refused.value)


def test_a_checkpoint_in_a_file_of_another_name_is_read(tmp_path):
    torch.save({"w": torch.ones(2)}, tmp_path / "net.bin")
    (tmp_path / "net.xml").write_text("")
    assert chita.load(tmp_path / "net.bin").keys() == {"w"}


def test_bad_input_is_refused(tmp_path):
    run = written(tmp_path / "run", sparsity=0.8)
    with pytest.raises(InputError, match="holds no masks"):
        verify(run / "model.safetensors")
    with pytest.raises(InputError, match="holds no masks"):
        verify(run, tmp_path)
    save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="no such tensors"):
        verify(tmp_path / "other.safetensors", run)
    small = {"0.weight": torch.ones(2), "2.weight": torch.ones(2)}
    save_file(small, tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match="has the shape"):
        verify(tmp_path / "b.safetensors", run)
    (run / "record.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as a record"):
        verify(run)


def test_exit_codes(tmp_path):
    run = written(tmp_path / "run", sparsity=0.8)
    assert invoke("verify", str(run)).exit_code == 0
    changed(run, "2.weight", 1.0)
    told = invoke("verify", str(run), "--json")
    assert told.exit_code == 1
    assert "2.weight" in json.loads(told.stdout)["faults"][0]
    told = invoke("verify", str(run))
    assert told.exit_code == 1
    assert "2.weight: 1 of" in told.stderr
    assert invoke("verify", str(tmp_path / "none")).exit_code == 2
