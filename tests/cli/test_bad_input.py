"""Every mistake gets one message and exit code 2, and leaves things as they were."""

import itertools
import os
import re
import resource
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from chita.exports import run_folder
from chita.masks.storage import save_masks
from tests.cli import mistakes
from tests.cli.refusals import (
    cause,
    done_well,
    interrupted,
    pickled,
    refused,
    tree,
    weights_of,
    write_masks,
)
from tests.program import chita as invoke

PRUNE = ("prune", "--nnz", 900, "--samples", 20)
QUICK = ("prune", "--nnz", 900, "--solver", "magnitude")
numbers = itertools.count()


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A function of a user's own, by its body, as `module:function`."""

    def written(body, arguments=""):
        name = f"own_code_{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(mistakes.OWN.format(body=body, arguments=arguments))
        monkeypatch.syspath_prepend(tmp_path)
        return f"{name}:given"

    return written


@pytest.mark.parametrize("command", ["prune", "plan"])
@pytest.mark.parametrize(("given", "told"), mistakes.BUDGETS)
def test_budgets_that_cannot_be_met(command, given, told):
    message = refused(command, *given)
    assert told in message
    assert "\n" not in message


def test_a_budget_must_be_given():
    assert "got none" in refused("prune")


@pytest.mark.parametrize(("given", "told"), mistakes.USAGE)
def test_usage_that_is_none(given, told):
    message = refused("prune", *given)
    assert told in message
    assert "\n" not in message
    assert message.endswith("See chita prune --help.")


def test_a_command_that_is_none_and_no_command():
    message = refused("prun")
    assert message.startswith('Error: Unknown command "prun". Did you mean "prune"? ')
    assert message.endswith(" See chita --help.")
    done = invoke()
    assert (done.exit_code, done.stderr) == (2, "")
    assert "refit" in done.stdout
    assert invoke("prune", "--help").exit_code == 0


@pytest.mark.parametrize(("given", "told"), mistakes.VALUES)
def test_names_and_values_that_are_unknown_are_refused_before_any_work(given, told):
    assert told in refused(*PRUNE, *given, idle=True)


def test_more_gradients_than_samples():
    told = "need 2000 samples"
    assert told in refused(*PRUNE, "--samples-per-gradient", 100)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_named(own, value):
    tensors = weights_of()
    tensors["fc1.bias"][3] = tensors["fc2.weight"][0, 0] = value
    save_file(tensors, "w.safetensors")
    for command in (PRUNE, ("plan",), ("evaluate",)):
        told = refused(*command, "--weights", "w.safetensors")
        assert "fc1.bias: NaN or infinite values; fc2.weight: NaN or infinite values" in told
        for name in ("fc2.weight", "fc1.bias"):
            network = own(f"return broken_weight({name!r}, float('{value}'))")
            told = refused(*command, "--model", network, "--data", "digits")
            assert f"has NaN or infinite values in: {name}. " in told


def test_every_tensor_that_does_not_fit_is_listed_at_once():
    tensors = weights_of()
    del tensors["fc1.weight"], tensors["fc3.bias"]
    tensors["fc2.weight"] = torch.zeros(3, 3)
    tensors["fc3.weight"] = torch.zeros(10, 64, dtype=torch.int64)
    tensors["head.weight"] = torch.full((2,), float("nan"))
    save_file(tensors, "w.safetensors")
    told = refused(*PRUNE, "--weights", "w.safetensors")
    for fault in (
        "fc1.weight: missing",
        "fc3.bias: missing",
        "fc2.weight: shape (3, 3), the network has (64, 128)",
        "fc3.weight: torch.int64, the network has torch.float32",
        "head.weight: not in the network",
        "head.weight: NaN or infinite values",
    ):
        assert fault in told
    assert "\n" not in told


@pytest.mark.parametrize(("strange", "told"), mistakes.STRANGE)
def test_tensors_that_are_no_plain_numbers(strange, told):
    tensors = weights_of()
    torch.save({**tensors, "fc1.weight": strange(tensors["fc1.weight"])}, "w.pt")
    assert told in refused(*PRUNE, "--weights", "w.pt")


@pytest.mark.parametrize("role", ["--weights", "--mask"])
@pytest.mark.parametrize(("name", "content", "told"), mistakes.FILES)
def test_files_that_hold_no_tensors(role, name, content, told):
    Path("folder").mkdir()
    if content is not None:
        save_file(weights_of(), "whole.safetensors")
        Path(name).write_bytes(content(Path("whole.safetensors").read_bytes()))
    commands = {"--weights": [PRUNE, ("plan",), ("evaluate",)], "--mask": [("refit",), ("apply",)]}
    for command in commands[role]:
        message = refused(*command, role, name)
        assert told in message
        assert name in message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_weights_file_that_may_not_be_read():
    save_file(weights_of(), "w.safetensors")
    Path("w.safetensors").chmod(0)
    Path("run.toml").write_text('weights = "w.safetensors"')
    assert "'w.safetensors' is not readable" in refused(*PRUNE, "--weights", "w.safetensors")
    assert "may not be read. Check its perm" in refused(*PRUNE, "--config", "run.toml")


@pytest.mark.parametrize("kind", ["zip", "legacy", "2", "5"])
@pytest.mark.parametrize("role", ["--weights", "--mask", "--data"])
def test_code_in_a_pickle_never_runs(role, kind, tmp_path):
    path, trace = tmp_path / "file.pt", tmp_path / "ran"
    pickled(trace, kind, path)
    for command in (("refit",), ("apply",)) if role == "--mask" else (PRUNE, ("evaluate",)):
        message = refused(*command, role, path)  # which sees the trace, if there is any
        assert "would run code stored in the file" in message
        assert ("--allow-pickle" in message) == (role != "--data")
    with suppress(Exception):
        torch.load(path, weights_only=False)
    assert trace.exists()  # so the file was dangerous


def test_objects_in_an_array_file_are_not_unpickled(tmp_path):
    pickled(tmp_path / "ran", "zip", tmp_path / "w.pt")
    hostile = np.array([{"a": 1}], dtype=object)
    np.savez("data.npz", inputs=hostile, targets=np.zeros(1))
    assert "allow_pickle=False" in refused(*PRUNE, "--data", "data.npz")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    with zipfile.ZipFile("bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(4):
            archive.writestr(f"train/{i}/a.png", bytes(5 << 20))

    def unpack(*_, **__):
        raise AssertionError("unpacked")

    monkeypatch.setattr(zipfile.ZipFile, "open", unpack)
    told = "to 20971520 bytes, which images do not. It may be a zip bomb"
    assert told in refused(*PRUNE, "--data", "bomb.zip")


@pytest.mark.parametrize("command", ["refit", "apply"])
@pytest.mark.parametrize(("mask", "told"), mistakes.MASKS)
def test_masks_that_do_not_fit(command, mask, told):
    write_masks(Path.cwd())
    assert told in refused(command, "--mask", mask)


@pytest.mark.parametrize("command", ["refit", "apply"])
def test_a_mask_must_be_given(command):
    assert refused(command).startswith("Error: --mask is missing. Run folder or its masks")


def test_refitting_that_would_change_nothing():
    write_masks(Path.cwd())
    assert "zero already" in refused("refit", "--samples", 20, "--mask", "all.masks")
    done_well("apply", "--mask", "half.masks", "--out", "run")
    for mask in ("half.masks", "run"):
        told = refused("refit", "--samples", 20, "--weights", "run", "--mask", mask)
        assert "zero already, so refitting changes nothing. Give the network as it was" in told


def test_a_network_without_data(own):
    network = own("return DigitsMLP()")
    save_masks({"fc1.weight": torch.arange(8192).view(128, 64) > 9}, Path("m.masks"))
    for command, told in (
        (PRUNE, "has no data of its own, and chita needs calibration data"),
        (("refit", "--mask", "m.masks"), "has no data of its own"),
        (("evaluate",), "There are no evaluation data"),
    ):
        message = refused(*command, "--model", network)
        assert told in message
        assert "--data" in message


# Networks, data and losses of the user's own


@pytest.mark.parametrize(("body", "told"), mistakes.NETWORKS)
def test_networks_that_cannot_be_used(own, body, told):
    assert told in refused(*PRUNE, "--nnz", 60, "--model", own(body), "--data", "digits")


def test_networks_that_no_run_folder_holds(own):
    body = "m = DigitsMLP()\n    m.register_buffer('eye', torch.eye(3).to_sparse())\n    return m"
    given = ("--model", own(body), "--data", "digits")
    told = "eye in the state dict is a float32 tensor (torch.sparse_coo), which safetensors cannot"
    assert told in refused(*PRUNE, *given, idle=True)
    save_masks({"fc1.weight": torch.arange(8192).view(128, 64) > 9}, Path("m.masks"))
    for command in ("refit", "apply"):
        assert told in refused(command, "--mask", "m.masks", *given, idle=True)


def test_networks_that_have_no_room_for_weights_yet(own):
    save_file(weights_of(), "w.safetensors")
    for body in ("return DigitsMLP().to('meta')", "return nn.LazyLinear(10)"):
        told = refused(*PRUNE, "--model", own(body), "--weights", "w.safetensors")
        assert "no room for weights yet" in told


def test_functions_that_are_not_there(own):
    module = own("return 1").partition(":")[0]
    message = refused(*PRUNE, "--model", f"{module}:givn")
    assert f"{module} has no 'givn'. Did you mean given?" in message
    assert f"{module}:x is a Tensor; it must be a function" in refused(
        *PRUNE, "--data", f"{module}:x"
    )
    for role in ("--model", "--data", "--loss"):
        assert "cannot be imported: ModuleNotFound" in refused(*PRUNE, role, "no_such_module:given")
    assert "cannot be imported: SyntaxError" in refused(*PRUNE, "--model", own("return ("))
    arguments = own("return DigitsMLP()", arguments="size")
    assert "It is called without arguments" in refused(*PRUNE, "--model", arguments)


@pytest.mark.parametrize(("body", "told"), mistakes.LOADERS)
def test_data_that_cannot_be_used(own, body, told):
    assert told in refused(*PRUNE, "--data", own(body))


@pytest.mark.parametrize(("body", "told"), mistakes.LOSSES)
def test_losses_that_cannot_be_used(own, body, told):
    assert told in refused(*PRUNE, "--loss", own(body, arguments="model, batch"))


def test_a_loss_is_a_function(own):
    module = own("return 1").partition(":")[0]
    assert "or a function (model, batch)" in refused(*PRUNE, "--loss", f"{module}:x")
    assert "The loss fails" in refused(*PRUNE, "--loss", own("return 1", arguments="model"))


@pytest.mark.parametrize(("content", "told"), mistakes.SETTINGS)
def test_run_files_that_cannot_be_used(content, told):
    Path("run.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    budget = [] if any(word in str(content) for word in ("nnz", "sparsity")) else ["--nnz", 900]
    assert told in refused("prune", "--config", "run.toml", *budget, out=None, idle=True)


def test_a_run_file_that_is_not_there():
    Path("folder").mkdir()
    for name, told in (("absent.toml", "No such file"), ("folder", "Is a directory")):
        message = refused(*PRUNE, "--config", name, idle=True)
        assert re.search(f"The run file {name} cannot be read.*{told}.*Check the path", message)


def test_places_that_take_no_run_folder():
    Path("file").write_text("kept")
    Path("home").mkdir()
    Path("home/thesis.txt").write_text("years of work")
    done_well(*QUICK, "--out", "run")
    Path("link").symlink_to("run")
    for out, told in (
        ("run", "run exists. Choose another path, or replace it with --force."),
        ("file/run", "file is a file. Choose another path"),
        ("home/thesis.txt/a/b", "thesis.txt is a file"),
    ):
        assert told in refused(*PRUNE, "--out", out, idle=True)
    for out in ("file", "home", "link", "run/model.safetensors"):
        for force in ([], ["--force"]):
            told = refused(*PRUNE, "--out", out, *force, idle=True)
            assert "is not a run folder, so force does not replace it" in told
    for out in ("", ".", "..", "/"):
        for force in ([], ["--force"]):
            assert "Choose another path" in refused(*PRUNE, "--out", out, *force, idle=True)


@pytest.mark.parametrize(
    "out",
    ["/proc/x", "/proc/a/b", "a" * 250, "a" * 300, f"new/{'a' * 250}", f"new/{'a' * 300}/b"],
)
def test_places_that_the_file_system_refuses_are_found_before_any_work(out):
    message = refused(*PRUNE, "--out", out, idle=True)
    assert re.search("(cannot be used: |not writable).*Choose another path", message)


def test_the_folder_one_stands_in_is_not_replaced(monkeypatch):
    done_well(*QUICK, "--out", "run")
    monkeypatch.chdir("run")
    for out in (".", "../run"):
        assert "the folder you are in" in refused(*PRUNE, "--out", out, "--force", idle=True)


@pytest.mark.parametrize("step", ["write_stored", "save_masks", "write_text"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_disk_that_fills_up(monkeypatch, step, existing):
    out = "run" if existing else "new/run"
    if existing:
        done_well(*QUICK, "--out", out)
    owner = Path if step == "write_text" else run_folder
    write = getattr(owner, step)

    def full(*args, **kwargs):
        write(*args, **kwargs)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(owner, step, full)
        told = refused(*QUICK, "--nnz", 500, "--out", out, "--force")
    assert "could not be written: [Errno 28] No space left on device" in told
    assert "free space or choose another path" in told
    done_well(*QUICK, "--nnz", 500, "--out", out, "--force")


@pytest.mark.parametrize("existing", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.slow
def test_a_disk_that_is_full_for_the_operating_system(existing):
    """A limit on the size of files stops the weights, which are 70 kB, as a full disk would."""
    if existing:
        done_well(*QUICK, "--out", "run")
    before = tree(Path.cwd())
    done = subprocess.run(
        [sys.executable, "-m", "chita", *map(str, QUICK), "--out", "run", "--force"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "could not be written" in cause(done.stderr)
    assert tree(Path.cwd()) == before


@pytest.mark.parametrize("existing", [pytest.param(False, marks=pytest.mark.slow), True])
def test_an_interrupt_while_collecting(own, existing):
    """The network sleeps once it is differentiated, and says so by a file."""
    body = "network = DigitsMLP()\n    network.forward = slow\n    return network"
    network = own(body)
    source = Path(network.partition(":")[0]).with_suffix(".py")
    source.write_text(source.read_text() + mistakes.SLOW)
    if existing:
        done_well(*QUICK, "--out", "run")
    before = tree(Path.cwd())
    arguments = [*PRUNE, "--model", network, "--data", "digits", "--out", "run", "--force"]
    code, said, told = interrupted(Path("collecting"), *arguments)
    Path("collecting").unlink()
    assert (code, said) == (130, ""), told
    assert "Interrupted; no result was written." in told
    assert "Traceback" not in told
    assert tree(Path.cwd()) == before


def test_a_reader_who_leaves_is_no_mistake():
    command = [sys.executable, "-m", "chita", "solvers"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert (process.wait(60), process.stderr.read()) == (141, b"")
