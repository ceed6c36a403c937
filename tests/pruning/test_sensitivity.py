"""Losses of tensors pruned by themselves, against masking and pruning them by hand."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import chita
from chita.constraints.parse import read_levels
from chita.data.digits import digits
from chita.errors import InputError, NumericalError, OutputError
from chita.models.prunable import prunable_layout
from chita.pruning.calibration import Calibration, Sampling
from chita.sensitivity_record import SensitivityRecord

SIZES = {"fisher": chita.Fisher(samples=60), "validation": 40, "seed": 3}
PLAIN = {"solver": "magnitude", **SIZES}
FIXED = chita.Quadratic(ridge="0.1x", step_size=1)


@pytest.fixture(scope="module")
def calibration():
    return digits()[0]


@pytest.fixture
def model():
    return chita.load_model("digits-mlp")


def table(found):
    return {(level.tensor, level.sparsity): level.loss for level in found.levels}


def validation_loss(model, calibration):
    """The mean loss on the validation samples of a run with `SIZES`."""
    layout = prunable_layout(model)
    samples = Calibration(Sampling(**SIZES), calibration, model, layout, validated=True)
    (batch,) = samples.sampler.validation.parts
    with torch.no_grad():
        return float(cross_entropy(model.eval()(batch[0]), batch[1]))


def test_the_growth_is_that_of_masking_one_tensor_by_hand(model, calibration):
    found = chita.sensitivity(model, calibration, sparsities=(0.9, 0.5), **PLAIN)
    dense = validation_loss(model, calibration)
    assert found.dense_loss == pytest.approx(dense, rel=1e-5)
    names = [name for name in model.state_dict() if name.endswith("weight")]
    assert list(table(found)) == [(name, s) for name in names for s in (0.0, 0.5, 0.9)]
    for name in names:
        assert table(found)[name, 0.0] == 0
        for kept, sparsity in ((0.5, 0.5), (0.1, 0.9)):
            weight = model.get_parameter(name)
            before = weight.detach().clone()
            k = int(kept * before.numel() + 1e-9)
            least = before.abs().flatten().sort(descending=True).values[k - 1]
            weight.data[before.abs() < least] = 0
            assert int((weight != 0).sum()) == k
            expected = validation_loss(model, calibration) - dense
            weight.data.copy_(before)
            assert expected > 0.01
            assert table(found)[name, sparsity] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("solver", ["bso", "chita", "obd"])
def test_the_growth_is_that_of_pruning_one_tensor_only(model, calibration, solver):
    brief = chita.solvers.CHITA().brief if solver == "chita" else solver  # as between stages
    options = {"solver": solver, "quadratic": FIXED, **SIZES}
    found = chita.sensitivity(model, calibration, sparsities=[0.7], **options)
    for layer in found.record.tensors:
        alone = chita.prune(
            model,
            calibration,
            targets=[layer.name],
            sparsity=0.7,
            solver=brief,
            quadratic=replace(FIXED, first_order=0),
            **SIZES,
        )
        expected = validation_loss(alone.model, calibration) - found.dense_loss
        assert table(found)[layer.name, 0.7] == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_a_network_is_not_touched_and_the_same_seed_gives_the_same_bits(calibration):
    model = chita.load_model("digits-cnn").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    options = {"solver": "bso", "quadratic": FIXED, "fisher": chita.Fisher(samples=60)}
    options["sparsities"] = (0.8,)
    first, again, other = (
        chita.sensitivity(model, calibration, seed=seed, **options) for seed in (0, 0, 1)
    )
    assert first.levels == again.levels
    assert first.record.data_hash == again.record.data_hash != other.record.data_hash
    assert first.levels != other.levels
    assert all(module.training for module in model.modules())
    assert all(weight.grad is None for weight in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_network_is_not_touched_by_a_measuring_that_fails(model, calibration):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def loss(model, batch):
        if (model.fc2.weight == 0).any():
            raise KeyError("shard 2")
        return cross_entropy(model(batch[0]), batch[1])

    with pytest.raises(InputError, match=r"The loss fails: KeyError: .shard 2"):
        chita.sensitivity(model, calibration, loss=loss, **PLAIN)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_only_targets_are_measured(model, calibration):
    found = chita.sensitivity(model, calibration, targets="fc2", sparsities=(0.5,), **PLAIN)
    assert [tensor.name for tensor in found.record.tensors] == ["fc2.weight"]
    whole = chita.sensitivity(model, calibration, sparsities=(0.5,), **PLAIN)
    assert table(found).items() <= table(whole).items()


def test_what_is_saved_is_read_again(model, calibration, tmp_path):
    found = chita.sensitivity(model, calibration, sparsities=(0.5, 0.9), solver="bso", **SIZES)
    found.save(tmp_path / "levels.csv")
    found.save(tmp_path / "folder")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == [
        *("SHA256SUMS", "levels.csv", "record.json")
    ]
    levels = (tmp_path / "folder" / "levels.csv").read_bytes()
    assert levels == (tmp_path / "levels.csv").read_bytes()
    read = read_levels(tmp_path / "levels.csv")
    assert {(n, s): loss for n, pairs in read.items() for s, loss in pairs} == table(found)
    budget = chita.Searched(chita.Sparsity(0.8), levels=read)
    pruned = chita.prune(model, calibration, budget=budget, solver="magnitude")
    assert pruned.record.levels == found.levels
    content = (tmp_path / "folder" / "record.json").read_text()
    assert SensitivityRecord.model_validate_json(content) == found.record
    plain = json.loads(content)
    assert (plain["format"], plain["command"]) == (1, "sensitivity")
    assert plain["levels"][4] == {
        **{"tensor": "fc2.weight", "sparsity": 0.5},
        "loss": table(found)["fc2.weight", 0.5],
    }
    assert plain["tensors"][0] == {"name": "fc1.weight", "shape": [128, 64], "weights": 8192}
    assert (plain["solver"], plain["samples"], plain["validation"]) == ("bso", 60, 40)
    for path in ("levels.csv", "folder"):
        with pytest.raises(OutputError, match=r"exists\. Choose another path, or replace"):
            found.save(tmp_path / path)
        found.save(tmp_path / path, force=True)


def test_a_table_that_cannot_be_written_leaves_the_old_one(
    model, calibration, tmp_path, monkeypatch
):
    found = chita.sensitivity(model, calibration, sparsities=(0.5,), **PLAIN)
    (tmp_path / "levels.csv").write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("chita.exports.run_folder.flush", full)
    for name in ("levels.csv", "new"):
        with pytest.raises(OutputError, match=r"could not be written: .*No space"):
            found.save(tmp_path / name, force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["levels.csv"]
    assert (tmp_path / "levels.csv").read_text() == "old"


def test_a_level_at_which_the_loss_is_not_finite_is_left_out(model, calibration):
    def loss(model, batch):
        empty = (model.fc2.weight == 0).float().mean() > 0.6
        return cross_entropy(model(batch[0]), batch[1]) + (torch.inf if empty else 0.0)

    found = chita.sensitivity(model, calibration, loss=loss, sparsities=(0.5, 0.7), **PLAIN)
    assert ("fc2.weight", 0.5) in table(found)
    assert ("fc2.weight", 0.7) not in table(found)
    assert ("fc3.weight", 0.7) in table(found)
    nn.init.zeros_(model.fc2.weight)
    with pytest.raises(NumericalError, match="on 40 validation samples, is inf"):
        chita.sensitivity(model, calibration, loss=loss, **PLAIN)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"sparsities": (0.5, 1.0)}, "`sparsity` is 1.0; give a number"),
        ({"sparsities": (-0.1,)}, "`sparsity` is -0.1"),
        ({"sparsities": (float("nan"),)}, "`sparsity` is nan"),
        ({"sparsities": ("half",)}, "`sparsity` is 'half'"),
        ({"sparsities": (0.5, 0.9, 0.5)}, "`sparsities` has 0.5 twice"),
        ({"sparsities": ()}, "give one above 0 at least"),
        ({"sparsities": (0,)}, "give one above 0 at least"),
        ({"sparsities": 0.5}, "`sparsities` is 0.5; give a list"),
        ({"solver": "wanda"}, "wanda only prunes layer by layer"),
        ({"validation": 0}, "`validation` is 0, but the loss is measured on validation samples"),
        (
            {"solver": "mfac", "fisher": chita.Fisher(structure="outputs")},
            "mfac takes the Fisher in full",
        ),
        ({"targets": "fc9"}, "'fc9'"),
        ({"fisher": chita.Fisher(samples=1297)}, "1297 of 1297 samples would make the gradients"),
    ],
)
def test_what_cannot_be_measured(model, calibration, options, told):
    with pytest.raises(InputError, match=told):
        chita.sensitivity(model, calibration, **options)


@pytest.mark.parametrize("run", [chita.sensitivity, chita.prune])
def test_a_network_or_a_loss_that_fails_is_named_where_nothing_is_collected(calibration, run):
    model = nn.Sequential(nn.Flatten(), nn.Linear(7, 10))
    options = {"budget": chita.Searched(chita.Sparsity(0.5))} if run is chita.prune else {}
    with pytest.raises(InputError, match=r"The forward pass fails in 1 \(Linear\)"):
        run(model, calibration, solver="magnitude", **options)

    def loss(model, batch):
        raise ValueError("boom")

    with pytest.raises(InputError, match="The loss fails: ValueError: boom"):
        run(model, calibration, solver="magnitude", loss=loss, **options)


def test_data_are_needed_by_every_solver(model):
    with pytest.raises(InputError, match="needs calibration data"):
        chita.sensitivity(model, None, solver="magnitude")
