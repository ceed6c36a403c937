"""Losses of tensors pruned alone, against runs that prune one tensor alone."""

import csv

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

import chita
from chita.cli.app import app
from chita.data.digits import digits
from chita.errors import InputError
from chita.pruning.search import LEVELS

OPTIONS = {"rows": 60, "held_out": 40, "seed": 3}
MLP = ["prune", "--rows", "60", "--held-out", "40", "--method", "bso", "--ridge", "0.1x"]


@pytest.fixture(scope="module")
def calibration():
    return digits()[0]


def held_out_loss(model, calibration, name, sparsity, options):
    """Of a run that prunes one tensor alone, from the same rows, by the same samples held out."""
    run = chita.prune(model, calibration, targets=[name], sparsity=sparsity, **options)
    return run.record.stages[-1].held_out_loss


@pytest.mark.parametrize("network", ["digits-mlp", "digits-cnn"])
@pytest.mark.parametrize("method", ["bso", "magnitude"])
def test_a_loss_is_that_of_pruning_one_tensor(calibration, network, method):
    model, _ = chita.load_model(network)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    posed = {"ridge": "0.1x", "step": 1, "first_order": 0, "method": method}
    options = {**OPTIONS, **posed}
    result = chita.prune(model, calibration, sparsity=0.8, per_layer="search", **options)
    table = {(level.tensor, level.sparsity): level.loss for level in result.record.levels}
    names = [layer.name for layer in result.layers]
    assert list(table) == [(name, sparsity) for name in names for sparsity in LEVELS]
    by_magnitude = {**OPTIONS, "method": "bso", "ridge": 1e9, "step": 0, "first_order": 0}
    alone = options if method == "bso" else by_magnitude  # which holds no samples out
    dense = held_out_loss(model, calibration, names[0], 0.0, {**options, "method": "bso"})
    for name in names:
        assert table[name, 0.0] == 0
        for sparsity in (LEVELS[2], LEVELS[9]):
            expected = held_out_loss(model, calibration, name, sparsity, alone) - dense
            assert table[name, sparsity] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.slow
def test_a_search_holds_what_it_chose_and_the_budget(calibration):
    model, _ = chita.load_model("digits-cnn")
    for words in (
        {"sparsity": 0.9},
        {"flops": 0.2},
        {"megabytes": 0.01},
        {"flops": 0.3, "nnz": 4000},
    ):
        found = chita.prune(model, calibration, per_layer="search", ridge=0.01, **words, **OPTIONS)
        record = found.record
        if "nnz" in words:
            assert record.nnz <= 4000
        if "flops" in words:
            assert record.flops <= words["flops"] * record.dense_flops
        if "sparsity" in words:
            assert record.nnz == 2382
        if "megabytes" in words:
            bits = sum(-(-layer.weights // 8) for layer in record.layers)
            assert 10_000 - 4 < bits + 4 * record.nnz <= 10_000
        again = {
            layer.name: [(x.sparsity, x.loss) for x in record.levels if x.tensor == layer.name]
            for layer in record.layers
        }
        same = chita.prune(model, calibration, per_layer=again, ridge=0.01, **words, **OPTIONS)
        assert same.record.layers == record.layers
        assert same.record.objective == record.objective


def test_a_table_is_written_and_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        done = CliRunner().invoke(app, [*MLP, "--sparsity", "0.9", *words, "--json"])
        assert done.exit_code == 0, done.output
        return done.stdout.splitlines()[-1]

    run("--per-layer", "search", "--out", "first")
    with (tmp_path / "first" / "levels.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * len(LEVELS)
    assert lines[0] == {"tensor": "fc1.weight", "sparsity": "0.0", "loss": "0.0"}
    run("--per-layer", "first/levels.csv", "--out", "second", "--stages", "2", "--force")
    run("--per-layer", "first/levels.csv", "--out", "second", "--force")
    first, second = tmp_path / "first", tmp_path / "second"
    assert (first / "levels.csv").read_bytes() == (second / "levels.csv").read_bytes()
    for name in ("masks.safetensors", "model.safetensors"):
        ours, theirs = load_file(first / name), load_file(second / name)
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    run("--out", "second", "--force")  # a run folder with levels is one that --force replaces
    assert not (tmp_path / "second" / "levels.csv").exists()


def test_what_a_search_cannot_do_without(calibration):
    model, _ = chita.load_model("digits-mlp")
    words = {"sparsity": 0.9, "per_layer": "search", "rows": 60}
    with pytest.raises(InputError, match="held_out is 0"):
        chita.prune(model, calibration, **words, ridge=0.1, step=1, first_order=0, held_out=0)
    with pytest.raises(InputError, match="needs calibration data"):
        chita.prune(model, **words, method="magnitude")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("tensor,sparsity,loss\nfc1,0.5,low\n", "with a number in each line"),
        ("tensor,sparsity,loss\nfc1,0.5,inf\n", "fc1: the loss at sparsity 0.5 is inf"),
        ("tensor,sparsity,loss\nfc*,0.5,0.1\n", "keep at least 8,512 weights"),
        ("tensor,sparsity\nfc1,0.5\nfc1,0.6\n", "fc1 stands in two lines"),
        ("tensor,sparsity,loss\n", "lists no tensor"),
    ],
)
def test_tables_that_cannot_be_used(content, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "levels.csv").write_text(content)
    budget = [] if "loss" not in content else ["--sparsity", "0.9"]
    done = CliRunner().invoke(app, [*MLP, *budget, "--per-layer", "levels.csv", "--out", "x"])
    assert (done.exit_code, (tmp_path / "x").exists()) == (2, False)
    assert told in " ".join(done.stderr.split())


def test_levels_and_tables_are_not_mixed(calibration):
    model, _ = chita.load_model("digits-mlp")
    mixed = {"fc1": [(0.5, 0.1)], "fc2": 0.5, "fc3": 0.5}
    with pytest.raises(InputError, match="one level for fc2, fc3"):
        chita.prune(model, calibration, sparsity=0.9, per_layer=mixed)
    with pytest.raises(InputError, match="list of pairs"):
        chita.prune(model, calibration, sparsity=0.9, per_layer={"*": [0.5, 0.6]})
    for run in (chita.prune, chita.plan):
        with pytest.raises(InputError, match="list of pairs"):
            run(model, calibration, sparsity=0.9, per_layer={"*": "0.5"})
