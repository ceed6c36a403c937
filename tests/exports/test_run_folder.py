from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import chita
from chita.errors import OutputError
from chita.exports import run_folder
from chita.masks.storage import load_masks
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


def test_tied_weights_are_stored_under_both_names(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    chita.prune(model, budget=chita.Nonzeros(3), solver="magnitude").save(tmp_path / "run")
    state = load_file(tmp_path / "run" / "model.safetensors")
    assert torch.equal(state["0.weight"], state["1.weight"])
    assert int(state["0.weight"].count_nonzero()) == 3


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


@pytest.mark.parametrize("step", ["save_file", "save_masks", "flush", "put"])
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
