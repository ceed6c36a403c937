"""`chita export` and `chita benchmark`, on a run."""

import json
import shutil
import sys

import pytest
import torch

import chita
from chita.cli.reopened import _is_code
from chita.data.digits import digits
from chita.masks.storage import load_masks
from chita.runtimes.measured import Benchmark
from tests.families.language import FAMILIES
from tests.program import chita as invoked


def refused(*arguments):
    done = invoked(*arguments)
    assert done.exit_code == 2, done.output
    assert not done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the command line, by magnitude."""
    out = tmp_path_factory.mktemp("run") / "run"
    done = invoked("prune", "--sparsity", 0.9, "--solver", "magnitude", "--out", out)
    assert done.exit_code == 0, done.output
    return out


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("dense", "net.safetensors"),
        ("sparse", "net.chita"),
        ("onnx", "net.onnx"),
        ("torch-csr", "net.pt"),
    ],
)
def test_a_run_as_a_file(run, kind, name, tmp_path):
    done = invoked("export", run, "--to", kind, "--out", tmp_path / name, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["kind"], found["nnz"], found["prunable"]) == (kind, 1702, 17024)
    assert found["files"] == [str(tmp_path / name)]
    assert found["bytes"] == (tmp_path / name).stat().st_size
    told = invoked("export", run, "--to", kind, "--out", tmp_path / name, "--force").stdout
    assert "1,702 of 17,024 weights not zero" in told


def test_tensors_alone_need_no_network_and_no_data(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    record = json.loads((copy / "record.json").read_text())
    record["settings"]["model"] = "gone:network"
    (copy / "record.json").write_text(json.dumps(record))
    arguments = ("export", copy, "--out", tmp_path / "net.chita", "--to", "sparse")
    done = invoked(*arguments, "--values", "float16")
    assert done.exit_code == 0, done.output
    masks, read = load_masks(run / "masks.safetensors"), chita.load(tmp_path / "net.chita")
    assert all(torch.equal(read[name] != 0, mask) for name, mask in masks.items())
    more = ("export", copy, "--out", tmp_path / "net.onnx", "--to", "onnx")
    assert "Give --model gone:network: code" in refused(*more)
    assert "No module named 'gone'" in refused(*more, "--model", "gone:network")


def test_a_run_of_transformers(tmp_path):
    family = FAMILIES["bert"]
    family.build().save_pretrained(tmp_path / "dense")
    data = tmp_path / "text.py"
    data.write_text(
        "from tests.families.language import FAMILIES\n"
        "def data():\n    batch = FAMILIES['bert'].data()\n    return [batch], [batch]\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        arguments = ("--model", f"hf:{tmp_path / 'dense'}", "--data", "text:data")
        given = ("--sparsity", 0.5, "--solver", "magnitude", "--loss", "model")
        done = invoked("prune", *arguments, *given, "--out", tmp_path / "run")
        assert done.exit_code == 0, done.output
        shutil.rmtree(tmp_path / "dense")
        arguments = ("export", tmp_path / "run", "--to", "hf", "--out", tmp_path / "hf", "--json")
        assert "Give --data text:data: code" in refused(*arguments)
        done = invoked(*arguments, "--data", "text:data")
        assert done.exit_code == 0, done.output
    finally:
        sys.path.remove(str(tmp_path))
    again = type(family.build()).from_pretrained(tmp_path / "hf")
    zeros = sum(int((t == 0).sum()) for n, t in again.state_dict().items() if t.ndim == 2)
    assert zeros >= json.loads(done.stdout)["prunable"] // 2
    assert not (tmp_path / "hf" / "masks.safetensors").exists()


def test_a_run_from_python_is_named(tmp_path):
    model = chita.load_model("digits-mlp")
    pruned = chita.prune(model, digits()[0], budget=chita.Nonzeros(500), solver="magnitude")
    pruned.save(tmp_path / "run")
    out = ("--to", "onnx", "--out", tmp_path / "net.onnx")
    assert "Name it with --model" in refused("export", tmp_path / "run", *out)
    done = invoked("export", tmp_path / "run", *out, "--model", "digits-mlp")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("name", "code"),
    [
        *[("own:net", True), ("a.b:c", True), ("hf:minilm", False), ("timm:vit", False)],
        *[("datasets:imdb", False), ("digits", False), (None, False)],
    ],
)
def test_which_names_are_code(name, code):
    assert _is_code(name) == code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "onyx", "--out", "net.onnx"], "Did you mean onnx"),
        (["--to", "onnx", "--out", "net.safetensors"], "ends in .onnx"),
        (["--to", "onnx", "--out", "net.onnx", "--batch", "0"], "--batch is 0"),
        (["--to", "onnx", "--out", "net.onnx", "--values", "float16"], "keeps the tensors' own"),
        (["--to", "sparse", "--out", "net.chita", "--values", "int4"], "values is 'int4'"),
        (["--to", "hf", "--out", "net"], "no network of transformers"),
        (["--to", "dense", "--out", "taken.safetensors"], "--force"),
        (["--to", "onnx", "--out", "net.onnx", "--data", "nowhere"], "nowhere"),
        (["--out", "net.onnx"], "--to"),
        (["--to", "dense"], "--out"),
    ],
)
def test_bad_input_gets_one_message(run, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken.safetensors").write_text("mine")
    assert message in refused("export", run, *arguments)
    assert [file.name for file in tmp_path.iterdir()] == ["taken.safetensors"]
    assert (tmp_path / "taken.safetensors").read_text() == "mine"


@pytest.mark.parametrize("command", ["export", "benchmark"])
def test_what_is_no_run_folder(command, tmp_path):
    (tmp_path / "empty").mkdir()
    more = ("--to", "onnx", "--out", tmp_path / "net.onnx") if command == "export" else ()
    (tmp_path / "masks.safetensors").write_bytes(b"")
    for path in (tmp_path / "none", tmp_path / "empty", tmp_path / "masks.safetensors"):
        message = refused(command, path, *more)
        assert str(path) in message
        assert "chita prune" in message


def test_a_run_on_a_device_that_is_not_here(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    record = json.loads((copy / "record.json").read_text())
    record["settings"]["device"] = "abacus"
    (copy / "record.json").write_text(json.dumps(record))
    done = invoked("export", copy, "--to", "torch-csr", "--out", tmp_path / "net.pt")
    assert done.exit_code == 0, done.output


def test_a_run_is_measured(run, tmp_path):
    out = tmp_path / "measured.json"
    arguments = ("benchmark", run, "--runtime", "torch", "--runtime", "torch-csr", "--batch", 3)
    done = invoked(*arguments, "--seconds", 0.01, "--out", out)
    assert done.exit_code == 0, done.output
    found = Benchmark.model_validate_json(out.read_text())
    assert [runtime.name for runtime in found.runtimes] == ["torch", "torch-csr"]
    assert found.shapes == {"input": (3, 1, 8, 8)}
    assert [layer.name for layer in found.layers] == ["fc1", "fc2", "fc3"]
    zeros = sum(layer.zeros * layer.shape[0] * layer.shape[1] for layer in found.layers) / 100
    assert round(zeros) == 17024 - 1702
    for sentence in found.sentences:
        assert sentence in done.stdout
    assert "replace it with --force" in refused(*arguments, "--out", out)
    assert "exists and is no file" in refused(*arguments, "--out", tmp_path, "--force")
    assert "load before and after" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--runtime", "mn"], "Unknown runtime 'mn'"),
        (["--batch", "0"], "--batch is 0"),
        (["--seconds", "0"], "--seconds is 0.0"),
        (["--seconds", "nan"], "--seconds is nan"),
        (["--out", "none/measured.json"], "is no folder"),
        (["--dense", "none.safetensors"], "does not exist"),
    ],
)
def test_what_cannot_be_measured(run, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert message in refused("benchmark", run, "--runtime", "torch", *arguments)
    assert not list(tmp_path.iterdir())
