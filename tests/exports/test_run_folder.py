from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, load_model, save_file
from torch import nn

import chita
from chita.errors import OutputError
from chita.exports import run_folder
from chita.exports import verify as verifying
from chita.exports.verify import verify
from chita.masks.storage import load_masks
from chita.pruning.config import Checkpoint
from chita.pruning.state import CheckpointFile, Saved
from chita.records import RunRecord


@pytest.fixture
def result():
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 3))
    model[2].weight = nn.Parameter(torch.randn(5, 5))
    return chita.prune(model, sparsity=0.5, solver="magnitude")


def test_any_loader_opens_it(tmp_path, result):
    result.save(tmp_path / "deep" / "run")
    state = load_file(tmp_path / "deep" / "run" / "model.safetensors")
    assert state.keys() == result.model.state_dict().keys()
    masks = load_masks(tmp_path / "deep" / "run" / "masks.safetensors")
    for name, mask in masks.items():
        assert torch.equal(state[name] != 0, mask)
    record = RunRecord.model_validate_json((tmp_path / "deep" / "run" / "record.json").read_text())
    assert record == result.record
    assert sum(int(mask.sum()) for mask in masks.values()) == record.nnz


def test_every_file_is_hashed_once(tmp_path, result, monkeypatch):
    hashed = []
    for module in (run_folder, verifying):
        own = module.digest
        monkeypatch.setattr(module, "digest", lambda p, own=own: hashed.append(p.name) or own(p))
    result.save(tmp_path / "run")
    assert sorted(hashed) == ["masks.safetensors", "model.safetensors", "record.json"]


def tied():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


def test_tied_weights_are_stored_once_and_read_under_both_names(tmp_path):
    result = chita.prune(tied(), budget=chita.Nonzeros(3), solver="magnitude")
    result.save(tmp_path / "run")
    result.export(tmp_path / "dense.safetensors", "dense")
    inputs = torch.randn(3, 4)
    expected = result.model(inputs)
    for path in (tmp_path / "run" / "model.safetensors", tmp_path / "dense.safetensors"):
        assert load_file(path).keys() == {"0.weight", "0.bias", "1.bias"}
        state = chita.load(path)
        assert state["1.weight"] is state["0.weight"]
        assert int(state["0.weight"].count_nonzero()) == 3
        for network in (tied(), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))):
            network.load_state_dict(state)
            assert torch.equal(network(inputs), expected)
        again = tied()
        load_model(again, path)  # safetensors' own
        assert torch.equal(again(inputs), expected)
    assert not verify(tmp_path / "run").faults


def test_an_unfinished_run_keeps_tied_weights_once(tmp_path):
    network, checkpoint = tied(), Checkpoint(tmp_path / "a.unfinished")
    file = CheckpointFile(checkpoint, settings={}, network=network)
    file.save(lambda: Saved(mask=torch.ones(16, dtype=torch.bool), done=[], others={}))
    names = load_file(checkpoint.path).keys()
    assert {n for n in names if n.endswith("weight")} == {"state.0.weight"}


def test_metadata_of_others_name_no_tensors(tmp_path):
    save_file({"w": torch.ones(2)}, tmp_path / "a.safetensors", {"author": "x", "w": "w"})
    assert chita.load(tmp_path / "a.safetensors").keys() == {"w"}


def test_an_existing_run_is_replaced_only_by_force(tmp_path, result):
    result.save(tmp_path / "run")
    before = (tmp_path / "run" / "record.json").read_bytes()
    with pytest.raises(OutputError, match="`force`"):
        result.save(tmp_path / "run")
    assert (tmp_path / "run" / "record.json").read_bytes() == before
    result.described(model="other").save(tmp_path / "run", force=True)
    assert '"other"' in (tmp_path / "run" / "record.json").read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_force_never_deletes_anything_but_a_run_folder(tmp_path, result):
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("kept")
    (tmp_path / "link").symlink_to(home)
    for target in (home, tmp_path / "file", tmp_path / "link"):
        with pytest.raises(OutputError, match="not a run folder"):
            result.save(target, force=True)
    assert (home / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "file").read_text() == "kept"
    result.save(tmp_path / "run")
    (tmp_path / "run" / "notes.txt").write_text("kept")
    with pytest.raises(OutputError, match="not a run folder"):
        result.save(tmp_path / "run", force=True)
    assert (tmp_path / "run" / "notes.txt").exists()
    (tmp_path / "empty").mkdir()
    result.save(tmp_path / "empty", force=True)


def test_a_parent_that_is_a_file(tmp_path, result):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        result.save(tmp_path / "file" / "run")


@pytest.mark.parametrize("step", ["write_stored", "save_masks", "flush", "put"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failure_leaves_things_as_they_were(tmp_path, result, monkeypatch, step, existing):
    if existing:
        result.save(tmp_path / "run")
        before = {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()}

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, step, full)
    with pytest.raises(OutputError, match="No space left"):
        result.save(tmp_path / "run", force=True)
    assert [p.name for p in tmp_path.iterdir()] == (["run"] if existing else [])
    if existing:
        assert {p.name: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


def test_the_old_run_comes_back_when_the_new_one_cannot_take_its_place(
    tmp_path, result, monkeypatch
):
    result.save(tmp_path / "run")
    rename = Path.rename

    def fails_for_the_draft(self, target):
        if self.suffix == ".part":
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_draft)
    with pytest.raises(OutputError, match="Input/output error"):
        result.save(tmp_path / "run", force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_paths_that_no_file_system_takes(tmp_path, result):
    with pytest.raises(OutputError, match="too long"):
        result.save(tmp_path / ("a" * 300))


def test_state_that_safetensors_cannot_hold_is_named(tmp_path, result):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"step": 3}

    extra = chita.prune(Extra(3, 3), budget=chita.Nonzeros(2), solver="magnitude")
    with pytest.raises(OutputError, match="_extra_state in the state dict is a dict"):
        extra.save(tmp_path / "run")
    assert not list(tmp_path.iterdir())
