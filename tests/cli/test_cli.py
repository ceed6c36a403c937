"""The program as a user runs it."""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import chita.models
from chita.data.digits import digits
from chita.data.sampler import draw
from chita.masks.storage import load_masks
from chita.models.paper.mlpnet import MLPNet
from chita.models.zoo import MODELS, load_network
from tests.program import chita as invoked

FIELDS = [
    *("dense_accuracy", "accuracy", "metric", "dense_metric", "pruned_metric"),
    *(
        "evaluated",
        "evaluated_of",
        "neighbours",
        "sparsity",
        "nnz",
        "prunable",
        "flops",
        "dense_flops",
        "objective",
        "lower_bound",
        "gap",
    ),
    *(
        "ridge",
        "first_order",
        "structure",
        "solver",
        "step_size",
        "stages",
        "epochs",
        "seconds",
        "peak_rss_mb",
    ),
    "seed",
    "repeat",
    "versions",
]


def run_chita(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "chita", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def refused(*arguments):
    """The one message of a refusal: exit code 2, no traceback, nothing on standard output."""
    done = invoked(*arguments)
    assert done.exit_code == 2, done.output
    assert not done.stdout
    return done.stderr


def test_json_is_alone_on_standard_output_and_a_run_folder_is_written(tmp_path):
    out = tmp_path / "run"
    done = run_chita("prune", "--sparsity", "0.9", "--samples", 100, "--json", "--out", out)
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert sorted(printed) == sorted(FIELDS)  # an object of JSON has no order
    phases = ["load", "open", "collect", "choose", "solve", "evaluate", "other", "total"]
    assert list(printed["seconds"]) == phases
    assert (printed["nnz"], printed["prunable"]) == (1702, 17024)
    assert printed["dense_accuracy"] > printed["accuracy"] > 50
    assert printed["peak_rss_mb"] > 50
    record = json.loads((out / "record.json").read_text())
    assert record["pruned_metric"] == printed["accuracy"]
    assert record["data_hash"]
    masks = load_masks(out / "masks.safetensors")
    assert sum(int(mask.sum()) for mask in masks.values()) == 1702
    evaluated = invoked("evaluate", "--weights", out, "--json")
    assert json.loads(evaluated.stdout)["accuracy"] == printed["accuracy"]
    assert json.loads(evaluated.stdout)["nnz"] == 1702
    message = refused("prune", "--nnz", 5, "--out", out)
    assert message.startswith("Error: ")  # before any work
    assert "--force" in message


def test_a_run_file_and_the_command_line_that_overrides_it(tmp_path):
    config = tmp_path / "run.toml"
    config.write_text(
        'model = "digits-cnn"\nsparsity = 0.5\nsolver = "iht"\nsamples = 50\n'
        "[options]\nmax_iterations = 4\n"
    )
    done = invoked("prune", "--config", config, "--nnz", 2000, "--option", "tolerance=0", "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert (printed["nnz"], printed["solver"]) == (2000, "iht")
    config.write_text("sparsity = 0.5\nsamples-per-gradient = 2\nspeed = 3\nsample = 5\n")
    message = refused("prune", "--config", config)
    assert "'speed'" in message
    assert "'sample': Did you mean samples" in message
    assert "gradient'" not in message
    config.write_text('sparsity = "half"\nsamples = [1]\n')
    message = refused("prune", "--config", config)
    assert "--sparsity is 'half'" in message
    assert "--samples is [1]" in message
    config.write_text("sparsity = \n")
    assert "is not TOML" in refused("prune", "--config", config)
    assert "cannot be read" in refused("prune", "--config", tmp_path / "absent.toml")


def test_a_run_file_is_utf_8_in_any_locale(tmp_path):
    (tmp_path / "run.toml").write_bytes('model = "é"\n'.encode())
    code = "from chita.settings import read_toml; import sys, pathlib; "
    code += "print(ascii(read_toml(pathlib.Path(sys.argv[1]))))"
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code, str(tmp_path / "run.toml")]
    done = subprocess.run(command, env={**os.environ, **plain}, capture_output=True, check=True)
    assert done.stdout.decode().strip() == r"{'model': '\xe9'}"


def test_what_is_finished_of_a_run_is_replaced_only_by_a_run(tmp_path):
    kept = tmp_path / "run.unfinished"
    kept.write_bytes(b"epochs")
    asked = ("prune", "--solver", "magnitude", "--out", tmp_path / "run", "--force")
    for given in (["--nnz", 0], ["--nnz", 900, "--ignore", "*"], ["--nnz", 10**9]):
        assert invoked(*asked, *given).exit_code == 2
        assert kept.read_bytes() == b"epochs"
    assert invoked(*asked, "--nnz", 900).exit_code == 0
    assert not kept.exists()


def test_settings_reach_the_run():
    arguments = ["prune", "--nnz", 900, "--samples", 20, "--first-order", 0.5, "--ridge", 0.2]
    hashes = set()
    for seed in (3, 4):
        with tempfile.TemporaryDirectory() as folder:
            run = [*arguments, "--seed", seed, "--out", f"{folder}/run", "--json"]
            done = invoked(*run)
            assert done.exit_code == 0, done.output
            printed = json.loads(done.stdout)
            hashes.add(json.loads(Path(f"{folder}/run/record.json").read_text())["data_hash"])
        assert (printed["first_order"], printed["ridge"], printed["seed"]) == (0.5, 0.2, seed)
        assert printed["objective"] < 100
    assert hashes == {draw(digits()[0], 20, seed).digest() for seed in (3, 4)}


def test_tables():
    assert (
        "digits-cnn on digits, pruned by chita"
        in invoked(*(
            "prune",
            "--model",
            "digits-cnn",
            "--sparsity",
            0.5,
            "--samples",
            50,
            "--ridge",
            0.1,
        )).stdout
    )
    listed = invoked("solvers").stdout
    assert all(name in listed for name in ("magnitude", "bso", "iht", "chita"))
    assert "│ max_rounds      │ INT at least 0    │ 100 " in invoked("solvers", "chita").stdout
    assert "32,360" in invoked("models").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune"], "got none"),
        (["prune", "--sparsity", 0.5, "--nnz", 5], "got --sparsity and --nnz"),
        (["prune", "--sparsity", 1], "at least 0 and below 1"),
        (["prune", "--sparsity", "nan"], "at least 0 and below 1"),
        (["prune", "--sparsity", "lots"], "--sparsity"),
        (["prune", "--nnz", 5, "--solver", "chitta"], "Did you mean chita"),
        (["prune", "--nnz", 5, "--option", "depth=3"], "no option 'depth'"),
        (["prune", "--nnz", 5, "--model", "mlpnett"], "Did you mean mlpnet"),
        (["prune", "--nnz", 5, "--data", "minst"], "Did you mean mnist"),
        (["prune", "--nnz", 5, "--data", "mnist", "--data-dir", "/nowhere"], "t10k-labels"),
        (["prune", "--nnz", 5, "--data", "digits", "--samples", 5000], "need 5000 samples"),
        (["prune", "--nnz", 5, "--device", "abacus"], "abacus"),
        (["prune", "--nnz", 5, "--device", "meta"], "'meta' cannot be used"),
        (["prune", "--nnz", 5, "--out", "a" * 300], "too long"),
        (["prune", "--nnz", 5, "--weights", "a" * 300], "too long"),
        (["prune", "--nnz", 5, "--data", "mnist", "--data-dir", "a" * 300], "too long"),
        (["prune", "--nnz", 5, "--weights", "/nowhere"], "does not exist"),
        (["prune", "--nnz", 5, "--ridge", "strong"], "--ridge is 'strong'"),
        (["evaluate", "--model", "mlpnet"], "--weights"),
        (["prun"], 'Did you mean "prune"'),
        (["prune", "--nnz", 5, "--colour"], "--colour"),
    ],
)
def test_bad_input_gets_one_message_and_exit_code_2(arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused(*arguments)
    assert not list(tmp_path.iterdir())


def test_data_of_another_shape_names_the_module_where_it_fails(tmp_path):
    """An MNIST-sized network on digits."""
    save_file(MLPNet().state_dict(), tmp_path / "w.safetensors")
    arguments = ["--model", "mlpnet", "--weights", tmp_path / "w.safetensors", "--data", "digits"]
    assert "fc1 (Linear)" in refused("prune", "--nnz", 5, *arguments)
    assert "fc1 (Linear)" in refused("evaluate", *arguments)


def test_a_refusal_from_the_shell():
    done = run_chita("prune", "--sparsity", 2)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: --sparsity is 2.0; ")
    assert done.stderr.count("\n") == 1


def test_an_interrupted_run_leaves_nothing(tmp_path):
    code = (
        "import sys\n"
        "from unittest.mock import patch\n"
        "from chita.cli.app import main\n"
        "sys.argv = ['chita', 'prune', '--nnz', '5', '--out', 'run']\n"
        "name = 'chita.pruning.calibration.collect_gradients'\n"
        "with patch(name, side_effect=KeyboardInterrupt):\n"
        "    main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 130
    assert "Interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.data
def test_the_papers_network_from_the_command_line(data_dir, tmp_path):
    weights = data_dir / "checkpoints" / "mlpnet_mnist.safetensors"
    common = ["--model", "mlpnet", "--weights", weights, "--data-dir", data_dir, "--json"]
    common += ["--evaluate", "all"]
    done = run_chita("prune", *common, "--nnz", 3235, "--solver", "magnitude")
    printed = json.loads(done.stdout)
    assert round(printed["dense_accuracy"], 2) == 93.97
    assert round(printed["accuracy"], 2) == 90.3
    assert printed["objective"] is None
    assert printed["ridge"] is None
    given = ("--sparsity", 0.9, "--samples", 100, "--ridge", 0.1)
    assert json.loads(invoked("prune", *common, *given).stdout)["nnz"] == 3236


@pytest.mark.data
@pytest.mark.slow
def test_the_papers_pickle_from_the_command_line(data_dir, tmp_path):
    common = ["--model", "mlpnet", "--weights", "", "--data-dir", data_dir, "--json"]
    common += ["--evaluate", "all"]
    pickle = data_dir / "checkpoints" / "mnist_25_epoch_93.97.ckpt"
    common[3] = pickle
    assert "--allow-pickle" in refused("evaluate", *common)
    done = run_chita(
        *("prune", *common, "--allow-pickle", "--nnz", 900, "--solver", "magnitude"),
        *("--out", tmp_path / "run"),
    )
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert record["dropped"] == [f"module.fc{i}._weight_mask" for i in (1, 2, 3)]
    done = run_chita("evaluate", *common, "--allow-pickle")
    assert round(json.loads(done.stdout)["accuracy"], 2) == 93.97
    assert "fc1._weight_mask" in done.stderr


def test_a_record_names_what_a_checkpoint_had_beside_the_weights(tmp_path, monkeypatch):
    """Masks, as in the paper's files."""
    monkeypatch.chdir(tmp_path)
    masks = {f"fc{i}._weight_mask": torch.ones(2) for i in (1, 2, 3)}
    save_file({**MLPNet().state_dict(), **masks}, "w.safetensors")
    save_file({"inputs": torch.randn(9, 784), "targets": torch.arange(9)}, "data.safetensors")
    given = ("--model", "mlpnet", "--weights", "w.safetensors", "--data", "data.safetensors")
    done = invoked("prune", *given, "--nnz", 900, "--solver", "magnitude", "--out", "run")
    assert done.exit_code == 0, done.output
    assert json.loads(Path("run/record.json").read_text())["dropped"] == list(masks)
    assert f"Dropped from the checkpoint: {', '.join(masks)}" in done.stderr


def test_the_shipped_weights_are_small():
    folder = Path(chita.models.__file__).parent / "weights"
    files = [folder / str(spec.bundled) for spec in MODELS.values() if spec.bundled]
    assert sum(pathlib.Path(file).stat().st_size for file in files) < 300_000
    assert load_network("digits-mlp")[1] == ()


def test_levels_by_outliers_are_measured_layer_by_layer():
    arguments = ("--sparsity", "0.5", "--per-layer", "owl", "--solver", "alps", "--samples", "100")
    told = invoked("prune", *arguments, "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["nnz"] == 8512


GRADUAL = """
model = "digits-cnn"
samples = 100
solver = "magnitude"
[training]
epochs = 3
events = 2
"""


def test_gradual_pruning_from_a_run_file(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(GRADUAL)
    out = tmp_path / "out"
    told = invoked(
        *("prune", "--config", file, "--sparsity", "0.9", "--training.batch", 50),
        *("--json", "--out", out),
    )
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert found["nnz"] == 2382
    assert [epoch["epoch"] for epoch in found["epochs"]] == [1, 2, 3]
    assert found["epochs"][-1]["metric"] == found["accuracy"]
    record = json.loads((out / "record.json").read_text())
    assert record["settings"]["training"]["batch"] == 50
    assert invoked("verify", out).exit_code == 0
    shown = invoked("prune", "--config", file, "--sparsity", "0.9")
    assert "3 epochs, training loss" in shown.stdout


def test_wrong_tables_of_training_get_one_message(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text(GRADUAL)
    given = ("prune", "--config", file, "--sparsity", "0.9")
    assert "Did you mean --training.epochs?" in refused(*given, "--training.epoch", 2)
    assert "need more than 1 epochs" in refused(*given, "--training.epochs", 1)
    assert "--training.rate is 'fast'" in refused(*given, "--training.rate", "fast")
    file.write_text(f"{GRADUAL}epoch = 4\n")
    assert "'training.epoch': Did you mean epochs" in refused(*given)


def test_an_option_of_training_turns_it_on(tmp_path):
    options = ("--training.epochs", 1, "--training.events", 1, "--out", tmp_path / "run")
    done = invoked("prune", "--sparsity", 0.9, "--solver", "magnitude", *options)
    assert done.exit_code == 0, done.output
    asked = json.loads((tmp_path / "run" / "record.json").read_text())["settings"]["training"]
    assert (asked["epochs"], asked["events"], asked["batch"]) == (1, 1, 128)
