"""Checkpoints in several files beside an index: read as one, or refused with what is wrong."""

import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import chita
from chita.errors import CheckpointError
from chita.exports.verify import verify
from chita.masks.fit import read_masks
from chita.models.zoo import load_model

PARTS = (["0.weight", "0.bias"], ["1.weight", "1.bias"])


def pruned():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))
    return chita.prune(model, solver="magnitude", sparsity=0.6)


def parted(folder, state, kind="safetensors"):
    """Write a state dict in two files beside an index, and return the latter."""
    stem = "model" if kind == "safetensors" else "pytorch_model"
    folder.mkdir()
    places = {}
    for number, names in enumerate(PARTS, start=1):
        file = f"{stem}-0000{number}-of-00002.{kind}"
        own = {name: state[name].clone() for name in names}
        if kind == "safetensors":
            save_file(own, folder / file, metadata={"format": "pt"})
        else:
            torch.save(own, folder / file)
        places |= dict.fromkeys(names, file)
    index = folder / f"{stem}.{kind}.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": places}))
    return index


def changed(index, change):
    content = json.loads(index.read_text())
    change(content["weight_map"])
    index.write_text(json.dumps(content))


def plain():
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 3))


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_parts_are_read_wherever_a_checkpoint_is(tmp_path, kind):
    result = pruned()
    state = result.model.state_dict()
    result.save(tmp_path / "run")
    index = parted(tmp_path / "checkpoint-200", state, kind)
    for path in (index, index.parent):
        tensors = chita.load(path)
        assert tensors.keys() == state.keys()
        assert all(torch.equal(tensors[name], t) for name, t in state.items())
        assert verify(path, tmp_path / "run").faults == ()
        found = read_masks(path, plain())
        assert all(torch.equal(found[name], mask) for name, mask in result.masks.items())
        network = load_model("tests.models.test_parts:plain", path)
        assert torch.equal(network[0].weight, result.model[0].weight)


def test_a_single_file_of_pytorch_in_a_folder(tmp_path):
    state = pruned().model.state_dict()
    torch.save(state, tmp_path / "pytorch_model.bin")
    assert chita.load(tmp_path).keys() == state.keys()


def test_a_part_that_is_absent_or_damaged_is_named(tmp_path):
    index = parted(tmp_path / "a", pruned().model.state_dict())
    second = index.parent / "model-00002-of-00002.safetensors"
    whole = second.read_bytes()
    second.write_bytes(whole[:-20])
    with pytest.raises(CheckpointError, match="model-00002-of-00002"):
        chita.load(index)
    second.unlink()
    with pytest.raises(CheckpointError, match="not there: model-00002-of-00002"):
        chita.load(index.parent)
    second.write_bytes(whole)
    changed(index, lambda places: places.update({"2.weight": second.name}))
    with pytest.raises(CheckpointError, match=r"do not hold: 2\.weight"):
        chita.load(index)


@pytest.mark.parametrize("where", ["../secret.safetensors", "{}/secret.safetensors", "a/../../s"])
def test_an_index_that_leads_out_of_its_folder_is_refused(tmp_path, where):
    state = pruned().model.state_dict()
    save_file(dict(state), tmp_path / "secret.safetensors")
    index = parted(tmp_path / "a", state)
    file = where.format(tmp_path)
    changed(index, lambda places: places.update({"1.weight": file}))
    with pytest.raises(CheckpointError, match="not beside it"):
        chita.load(index)


@pytest.mark.parametrize(
    "content",
    ["{}", "[]", "{", *(f'{{"weight_map": {m}}}' for m in ("3", "{}", '{"a": 1}'))],
)
def test_an_index_that_is_none(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(CheckpointError, match="cannot be read as an index"):
        chita.load(tmp_path)


def test_the_whole_file_goes_before_the_parts_as_in_transformers(tmp_path):
    index = parted(tmp_path / "a", pruned().model.state_dict())
    save_file({"w": torch.ones(2)}, index.parent / "model.safetensors")
    assert chita.load(index.parent).keys() == {"w"}


def test_a_folder_without_a_checkpoint_says_what_it_may_hold(tmp_path):
    with pytest.raises(CheckpointError, match=r"model\.safetensors\.index\.json, pytorch_model"):
        chita.load(tmp_path)
