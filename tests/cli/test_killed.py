"""Long runs that are killed go on to the same bits."""

import random
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from tests.text import saved, written

pytest.importorskip("transformers")

# The run kills itself at a call of a function: nothing is cleaned up, as with a loss of power.
RUN = """
import os, signal, sys
from chita.cli.app import main
place, count = sys.argv.pop(1), int(sys.argv.pop(1))
if count:
    from importlib import import_module
    module, owner, name = place.split(":")
    owner = getattr(import_module(module), owner)
    plain, calls = getattr(owner, name), []
    def dying(*args, **kwargs):
        calls.append(None)
        if len(calls) == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return plain(*args, **kwargs)
    setattr(owner, name, dying)
main()
"""
SOLVE = "chita.solvers.alps:ALPS:solve"  # six layers a block
SAVE = "chita.pruning.state:CheckpointFile:save"
SETTLE = "chita.collect.chain:Chain:_outputs"  # six batches for each pass over a block


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Runs `chita prune`, killed at a call of a function; the rest of the command in a list."""
    where = tmp_path_factory.mktemp("killed")
    folder, data = saved("encoder", where / "model"), written(where / "text")
    options = ["--model", f"hf:{folder}", "--data", str(data), "--solver", "alps"]
    options += ["--sparsity", "0.5", "--samples", "40", "--length", "16", "--max-memory", "0"]

    def run(place, count, out, *more):
        arguments = [sys.executable, "-c", RUN, place, str(count), "prune", *options]
        return subprocess.run(
            [*arguments, "--out", str(out), *more], capture_output=True, text=True, check=False
        )

    whole = run(SOLVE, 0, where / "whole")
    assert whole.returncode == 0, whole.stderr
    return run, load_file(where / "whole" / "model.safetensors"), where / "whole"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "count"),
    [(SOLVE, 2), (SOLVE, 7), (SOLVE, 9), (SAVE, 2), (SETTLE, 5), (SETTLE, 8)],
)
def test_a_killed_run_goes_on_to_the_same_bits(start, tmp_path, place, count):
    run, expected, whole = start
    out = tmp_path / "out"
    killed = run(place, count, out)
    assert killed.returncode == -signal.SIGKILL
    assert not (out / "model.safetensors").exists()
    done = run(place, 0, out, "--resume")
    assert done.returncode == 0, done.stderr
    found = load_file(out / "model.safetensors")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], weight) for name, weight in expected.items())
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in whole.iterdir())
    masks = load_file(out / "masks.safetensors")
    for name, mask in load_file(whole / "masks.safetensors").items():
        assert torch.equal(masks[name], mask)


@pytest.mark.slow
def test_a_killed_run_is_not_begun_again_unasked(start, tmp_path):
    run, _, _ = start
    assert run(SOLVE, 7, tmp_path / "out").returncode == -signal.SIGKILL
    again = run(SOLVE, 0, tmp_path / "out")
    assert again.returncode == 2
    assert "holds the finished part of an earlier run" in " ".join(again.stderr.split())


GRADUAL = """
model = "digits-cnn"
sparsity = 0.9
samples = 200
[training]
epochs = 24
events = 4
batch = 32
augmentation = "crop-flip"
"""


@pytest.mark.slow
def test_gradual_pruning_killed_at_five_random_moments_goes_on_to_the_same_bits(tmp_path):
    (tmp_path / "run.toml").write_text(GRADUAL)
    command = [sys.executable, "-m", "chita", "prune", "--config", str(tmp_path / "run.toml")]
    whole = tmp_path / "whole"
    began = time.monotonic()
    subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True)
    took = time.monotonic() - began
    expected = load_file(whole / "model.safetensors")
    moments = random.Random(7)
    for attempt in range(5):
        out = tmp_path / f"out{attempt}"
        unfinished = tmp_path / f"out{attempt}.unfinished"
        with subprocess.Popen(
            [*command, "--out", str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as run:
            while not unfinished.exists():  # the first epoch takes a share of the time to load
                time.sleep(0.01)
            time.sleep(moments.uniform(0, took / 4))
            run.kill()
        if run.returncode != -signal.SIGKILL:
            continue  # it was done before, on a machine that became faster
        assert not out.exists()
        subprocess.run([*command, "--out", str(out), "--resume"], check=True, capture_output=True)
        found = load_file(out / "model.safetensors")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], weight) for name, weight in expected.items())
        assert not unfinished.exists()
