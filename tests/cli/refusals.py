"""The look of every refusal, and files that must be refused."""

import os
import pickle
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from chita.masks.storage import save_masks
from chita.models.zoo import load_model
from tests.program import chita as invoke

WORK = re.compile(  # what progress leaves behind
    r"[\w ]+: [\d,]+( of [\d,]+)? \w+, [\d.]+ s(, [\d.,]+ \w+/s)?"
    r"|[\w ]+: (objective|validation loss) .*"
)
NOTICE = "no --weights: "  # of networks of one's own
WRITES = {"prune", "refit", "apply", "sensitivity"}


class Hostile:
    """A pickle of this makes a folder when it is loaded."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def tree(folder):
    """Every path under a folder, hidden ones too, with the bytes of files."""
    paths = sorted(folder.rglob("*"))
    return {p: p.read_bytes() if p.is_file() and os.access(p, os.R_OK) else None for p in paths}


def without_notices(stderr):
    """The lines of standard error but those that are said of a network before it is used."""
    return [line for line in stderr.splitlines() if not line.startswith(NOTICE)]


def cause(stderr):
    """The one message; all else on standard error is what progress left behind."""
    lines = without_notices(stderr)
    starts = [i for i, line in enumerate(lines) if line.startswith("Error: ")]
    assert len(starts) == 1, stderr
    assert all(WORK.fullmatch(line) for line in lines[: starts[0]]), stderr
    assert "Traceback" not in stderr
    return "\n".join(lines[starts[0] :])


def refused(*arguments, out="out", idle=False):
    """The message of a refusal: exit code 2, nothing said elsewhere, nothing written at all.

    Commands that write are told to write to `out`, unless they are told another place. `idle`
    demands that nothing was evaluated or collected before.
    """
    arguments = list(map(str, arguments))
    if out and arguments[0] in WRITES and "--out" not in arguments:
        arguments[1:1] = ["--out", out]
    before = tree(Path.cwd())
    done = invoke(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert tree(Path.cwd()) == before
    message = cause(done.stderr)
    assert not idle or "\n".join(without_notices(done.stderr)).strip() == message
    return message


def done_well(*arguments):
    done = invoke(*arguments)
    assert done.exit_code == 0, done.output


def weights_of():
    return {n: t.clone() for n, t in load_model("digits-mlp").state_dict().items()}


def pickled(trace, kind, path):
    """Write a hostile file: with torch.save, new or old, or by only pickle."""
    content = {"state_dict": {"fc1.weight": torch.zeros(2)}, "inputs": torch.zeros(9, 64)}
    content |= {"targets": torch.zeros(9), "more": Hostile(trace)}
    if kind in ("zip", "legacy"):
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    else:
        path.write_bytes(pickle.dumps(Hostile(trace), protocol=int(kind)))


def write_masks(folder):
    """Write masks for digits-mlp, `half` and `all` good ones, and its checkpoint without zeros."""
    weights = weights_of()
    save_file(weights, folder / "dense.safetensors")
    shapes = {n: t.shape for n, t in weights.items() if n.endswith("weight")}
    half = {n: torch.arange(s.numel()).view(s) % 2 == 0 for n, s in shapes.items()}
    for name, made in {
        "half": half,
        "all": {n: torch.ones(s, dtype=torch.bool) for n, s in shapes.items()},
        "none": {n: torch.zeros(s, dtype=torch.bool) for n, s in shapes.items()},
        "empty": {},
        "other": {"conv1.weight": torch.ones(2, 2, dtype=torch.bool)},
        "shape": {**half, "fc2.weight": torch.ones(3, 3, dtype=torch.bool)},
    }.items():
        save_masks(made, folder / f"{name}.masks")
    whole = (folder / "half.masks").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[:-100])
    (folder / "flipped.masks").write_bytes(whole.replace(b'"version":"1"', b'"version":"7"'))


def interrupted(sign, *arguments):
    """Exit code and output of the program, interrupted as by Ctrl-C once a file has appeared."""
    with subprocess.Popen(
        [sys.executable, "-B", "-m", "chita", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where tests run in the background it is ignored, and so it would be in their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 (no thread)
    ) as process:
        for _ in range(3000):
            if sign.exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        said, told = process.communicate(timeout=300)
    return process.returncode, said, told
