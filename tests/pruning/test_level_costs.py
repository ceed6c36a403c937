"""Losses of tensors pruned by themselves, against runs that prune one tensor only."""

import csv

import pytest
import torch
from safetensors.torch import load_file

import chita
from chita.budget_options import BudgetOptions
from chita.constraints import budget_of
from chita.data.digits import digits
from chita.errors import InputError
from chita.pruning.level_costs import LEVELS
from tests.program import chita as invoke

OPTIONS = {"fisher": chita.Fisher(samples=60), "validation": 40, "seed": 3}
MLP = ["prune", "--samples", "60", "--validation", "40", "--solver", "bso", "--ridge", "0.1x"]


@pytest.fixture(scope="module")
def calibration():
    return digits()[0]


def validation_loss(model, calibration, name, sparsity, options):
    """That of a run that prunes one tensor only, by the same gradients and validation samples."""
    run = chita.prune(model, calibration, targets=[name], sparsity=sparsity, **options)
    return run.record.stages[-1].validation_loss


@pytest.mark.parametrize(
    ("solver", "network"),
    [
        ("bso", "digits-cnn"),
        ("magnitude", "digits-mlp"),
        pytest.param("bso", "digits-mlp", marks=pytest.mark.slow),
        pytest.param("magnitude", "digits-cnn", marks=pytest.mark.slow),
    ],
)
def test_a_loss_is_that_of_pruning_one_tensor(calibration, network, solver):
    model = chita.load_model(network)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fixed = {
        "quadratic": chita.Quadratic(ridge="0.1x", step_size=1, first_order=0),
        "solver": solver,
    }
    options = {**OPTIONS, **fixed}
    result = chita.prune(model, calibration, budget=chita.Searched(chita.Sparsity(0.8)), **options)
    table = {(level.tensor, level.sparsity): level.loss for level in result.record.levels}
    names = [layer.name for layer in result.layers]
    assert list(table) == [(name, sparsity) for name in names for sparsity in LEVELS]
    by_magnitude = {
        **OPTIONS,
        "solver": "bso",
        "quadratic": chita.Quadratic(ridge=1e9, step_size=0, first_order=0),
    }
    alone = options if solver == "bso" else by_magnitude  # which has no validation samples
    dense = validation_loss(model, calibration, names[0], 0.0, {**options, "solver": "bso"})
    for name in names:
        assert table[name, 0.0] == 0
        for sparsity in (LEVELS[2], LEVELS[9]):
            expected = validation_loss(model, calibration, name, sparsity, alone) - dense
            assert table[name, sparsity] == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.slow
def test_a_search_holds_what_it_chose_and_the_budget(calibration):
    model = chita.load_model("digits-cnn")
    quadratic = chita.Quadratic(ridge=0.01)
    for total, flops in (
        (chita.Sparsity(0.9), 1.0),
        (chita.Flops(0.2), 0.2),
        (chita.Megabytes(0.01), 1.0),
        (chita.Flops(0.3) & chita.Nonzeros(4000), 0.3),
    ):
        found = chita.prune(
            model, calibration, budget=chita.Searched(total), quadratic=quadratic, **OPTIONS
        )
        record = found.record
        assert record.flops <= flops * record.dense_flops
        if flops == 0.3:
            assert record.nnz <= 4000
        if isinstance(total, chita.Sparsity):
            assert record.nnz == 2382
        if isinstance(total, chita.Megabytes):
            bits = sum(-(-layer.weights // 8) for layer in record.layers)
            assert 10_000 - 4 < bits + 4 * record.nnz <= 10_000
        again = {
            layer.name: [(x.sparsity, x.loss) for x in record.levels if x.tensor == layer.name]
            for layer in record.layers
        }
        measured = chita.Searched(total, levels=again)
        same = chita.prune(model, calibration, budget=measured, quadratic=quadratic, **OPTIONS)
        assert same.record.layers == record.layers
        assert same.record.objective == record.objective


def test_a_table_is_written_and_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        done = invoke(*MLP, "--sparsity", "0.9", *words, "--json")
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
    model = chita.load_model("digits-mlp")
    words = {"budget": chita.Searched(chita.Sparsity(0.9)), "fisher": chita.Fisher(samples=60)}
    with pytest.raises(InputError, match="`validation` is 0"):
        chita.prune(
            model,
            calibration,
            **words,
            quadratic=chita.Quadratic(ridge=0.1, step_size=1, first_order=0),
            validation=0,
        )
    with pytest.raises(InputError, match="needs calibration data"):
        chita.prune(model, **words, solver="magnitude")


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
    done = invoke(*MLP, *budget, "--per-layer", "levels.csv", "--out", "x")
    assert (done.exit_code, (tmp_path / "x").exists()) == (2, False)
    assert told in " ".join(done.stderr.split())


def test_levels_and_tables_are_not_mixed():
    mixed = {"fc1": [(0.5, 0.1)], "fc2": 0.5, "fc3": 0.5}
    with pytest.raises(InputError, match=r"0\.5 are no levels of fc2; give a list of pairs"):
        budget_of(BudgetOptions(sparsity=0.9, per_layer=mixed))
    with pytest.raises(InputError, match="fc1: `sparsity` is "):
        chita.Quotas(mixed)
    for levels in (mixed, {"*": [0.5, 0.6]}, {"*": "0.5"}):
        with pytest.raises(InputError, match="list of pairs"):
            chita.Searched(chita.Sparsity(0.9), levels=levels)
