"""Compare an older commit with this tree: the same runs must give the same masks and weights.

python tools/same_bits.py          five minutes on two idle cores

Every run is made by both trees, one after the other, on this machine, by the command line. Runs are
written here in today's words; the old words follow from `_OLD_FLAGS` and `old_words`. Tensors are
compared byte by byte, and so are two fields of the records. Exits with 1 on any difference.
Leave the tree alone while this runs. `--twice` runs the older commit twice: what differs then does
not repeat on this machine, and says nothing about the tree.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BASE = "af837ca"  # the last commit with the old options
FIELDS = ("nnz", "objective")  # of record.json

_DIGITS = "prune --data digits.npz --validation 100"
_ONCE = f"{_DIGITS} --samples 100 --sparsity 0.9"
_STAGES = f"{_DIGITS} --samples 60 --sparsity 0.95"
_CNN = "prune --model digits-cnn --samples 100 --validation 100"
_DECODER = "prune --model tiny:model --data tiny:data --samples 40 --sparsity 0.5"

RUNS = {
    "magnitude": f"{_ONCE} --solver magnitude --per-layer outputs",
    "bso": f"{_ONCE} --solver bso --option tries=5",
    "block-bso": f"{_ONCE} --solver block-bso",
    "cd": f"{_ONCE} --solver cd --option max_cycles=50",
    "iht": f"{_ONCE} --solver iht --option max_iterations=100",
    "active-set": f"{_ONCE} --solver active-set --option max_rounds=10",
    "chita": _ONCE,
    "local-search": f"{_ONCE} --solver local-search --option max_rounds=30",
    "obd": f"{_ONCE} --solver obd --seed 3",
    "woodfisher": f"{_ONCE} --solver woodfisher --option block_size=50",
    "mfac": f"{_ONCE} --solver mfac --first-order 0",
    "cbs": f"{_ONCE} --solver cbs --ridge 0.1x --option max_rounds=20",
    "snip": f"{_DIGITS} --samples 100 --megabytes 0.02 --solver snip --labels model",
    "random": f"{_DIGITS} --nnz 900 --min-keep 50 --solver random --targets fc1.* --targets fc2.*",
    "alps": f"{_DECODER} --solver alps --option max_iterations=50",
    "sparsegpt": f"{_DECODER} --solver sparsegpt --max-memory 0",
    "obc": f"{_DIGITS} --samples 100 --sparsity 0.7 --solver obc",
    "wanda": f"{_DECODER} --solver wanda --per-layer owl",
    "decoder-layers": f"{_DECODER} --layerwise",
    "cnn-layers": f"{_CNN} --sparsity 0.8 --layerwise",
    "cnn": f"{_CNN} --sparsity 0.9",
    "stages": f"{_STAGES} --stages 6 --ridge auto",
    "history": f"{_STAGES} --stages 4 --history 2 --schedule poly",
    "no-regrow": f"{_STAGES} --stages 3 --no-regrow --schedule 0.5,0.8,0.95",
    "run-file": "prune --config stages.toml",
    "gradual": "prune --config gradual.toml",
    "two-of-four": f"{_CNN} --pattern 2:4 --ignore conv1.weight",
    "blocks": f"{_ONCE} --blocks 4x1 --ignore fc3.weight",
    "flops": f"{_CNN} --sparsity 0.8 --flops 0.3 --no-bn-recalibrate",
    "erk": f"{_ONCE} --per-layer erk",
    "search": f"{_ONCE} --per-layer search --solver bso",
    "levels": f"{_ONCE} --per-layer ./search/levels.csv --solver bso",
    "outputs": f"{_ONCE} --structure outputs",
    "improved": f"{_ONCE} --weighting improved --structure full",
    "empirical": f"{_ONCE} --weighting empirical",
    "mean-gradients": f"{_ONCE} --samples-per-gradient 5",
    "bfloat16": f"{_ONCE} --storage bfloat16",
    "mask-alone": f"{_ONCE} --step-size 0",
    "bound": f"{_ONCE} --option bound=true --option max_rounds=20",
    "refit": "refit --data digits.npz --mask ./iht --samples 150 --structure full",
    "apply": "apply --data digits.npz --mask ./iht/masks.safetensors",
    "killed-stages": f"{_CNN} --sparsity 0.9 --stages 6",
    "killed-layers": f"{_CNN} --sparsity 0.9 --layerwise",
    "killed-epochs": f"{_ONCE} --training.epochs 8 --training.events 2 --training.batch 16",
}  # a word that begins with ./ names the folder of another run
KILLED = {name for name in RUNS if name.startswith("killed-")}  # and resumed

_GRADUAL = """
sparsity = 0.9
samples = 100
[training]
epochs = 2
events = 2
"""
_GROUPED = """
sparsity = 0.9
validation = 100
solver = "chita"
fisher = {samples = 80, structure = "full", history = 1}
quadratic = {ridge = 0.01, step_size = 1.0}
stages = {count = 2, schedule = "linear"}
options = {bound = true, max_rounds = 20}
"""
_MODULE = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM

def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=12,
        initializer_range=0.2, bos_token_id=0, eos_token_id=0, tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()

def data():
    torch.manual_seed(1)
    tokens = [torch.randint(40, (8, 12)) for _ in range(8)]
    batches = [{"input_ids": t, "labels": t.clone()} for t in tokens]
    return batches[:6], batches[6:]
"""
FILES = {"gradual.toml": _GRADUAL, "stages.toml": _GROUPED, "tiny.py": _MODULE}
_OPENING = """
import chita, numpy, sklearn.datasets
digits = sklearn.datasets.load_digits()
images = digits.images.astype("float32")[:, None] / 8 - 1
numpy.savez("digits.npz", inputs=images, targets=digits.target)
print(chita.__file__)
"""  # a file of data spares most runs the import of sklearn, a third of their time

_OLD_FLAGS = {
    **{"solver": "method", "samples": "rows", "samples-per-gradient": "row-size"},
    **{"storage": "rows-dtype", "validation": "held-out", "weighting": "fisher"},
    **{"structure": "fisher-blocks", "step-size": "step", "history": "earlier-rows"},
}  # without dashes before them
_GROUPS = ("fisher", "quadratic", "stages", "memory")


def old_words(words: Sequence[str]) -> list[str]:
    """Return arguments in the words of the old command line."""
    old: list[str] = []
    rest = iter(words)
    for word in rest:
        name = word.removeprefix("--")
        if name == word:
            old.append(word)
        elif name.startswith("training."):
            old += ["--train", f"{name.removeprefix('training.')}={next(rest)}"]
        elif name == "per-layer":
            old += [word, next(rest).replace("outputs", "rows")]
        elif name == "structure":
            old += ["--fisher-blocks", next(rest).replace("full", "whole")]
        elif name == "option" and (value := next(rest)) != "bound=true":
            old += [word, value]
        elif name == "option":
            old.append("--bound")
        elif name == "config":
            file = next(rest)
            old += ["--gradual" if "training" in tomllib.loads(FILES[file]) else word, file]
        else:
            old.append(f"--{_OLD_FLAGS.get(name, name)}")
    return old


def old_file(text: str) -> str:
    """Return a run file in the words of the old command line, without groups."""
    flat: dict[str, Any] = {}
    for name, value in tomllib.loads(text).items():
        if name in _GROUPS and isinstance(value, dict):
            flat |= {"stages" if f == "count" else f: v for f, v in value.items()}
        else:
            flat[name] = value
    if "structure" in flat:
        flat["structure"] = flat["structure"].replace("full", "whole")
    if "bound" in flat.get("options", {}):
        flat["bound"] = flat["options"].pop("bound")
    plain, tables = [], []
    for name, value in flat.items():
        dashed = name.replace("_", "-")
        name = _OLD_FLAGS.get(dashed, dashed).replace("-", "_")
        if isinstance(value, dict):
            tables += [f"[{name}]", *(f"{n} = {json.dumps(v)}" for n, v in value.items())]
        else:
            plain.append(f"{name} = {json.dumps(value)}")
    return "\n".join([*plain, *tables, ""])


class Failed(Exception):
    """A command that did not do what it should; the message has the end of its log."""


@dataclass(frozen=True, kw_only=True)
class Tree:
    """One tree, `path`, whose runs go to `folder`; `words` and `file` say things its way."""

    path: Path
    folder: Path
    python: str
    words: Callable[[Sequence[str]], list[str]]
    file: Callable[[str], str]

    def open(self) -> None:
        """Make the folder, and see that it is this tree which runs there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, text in FILES.items():
            said = self.file(text) if name.endswith(".toml") else text
            (self.folder / name).write_text(said)
        with self._log("opening").open("w") as log:
            self._started(["-c", _OPENING], log).wait()
        found = self._log("opening").read_text().strip()
        print(f"{self.folder.name}: {found}", flush=True)
        if Path(found) != self.path / "chita" / "__init__.py":
            raise Failed(f"that is not the tree {self.path}")

    def run(self, name: str) -> float:
        """Make one run, and return the seconds of a processor that it took."""
        given = self.words(shlex.split(RUNS[name]))
        words = ["-m", "chita", *given, "--out", name, "--quiet"]
        if name in KILLED:
            self._killed(name, words)
            words.append("--resume")
        with self._log(name).open("w") as log:
            process = self._started(words, log)
            _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise Failed(self._failure(name, words, f"exit code {process.returncode}"))
        return usage.ru_utime + usage.ru_stime

    def _killed(self, name: str, words: list[str]) -> None:
        """Start a run, and kill it once its file of finished parts was written a second time."""
        file = self.folder / f"{name}.unfinished"
        versions: set[tuple[int, int]] = set()
        with self._log(name).open("w") as log:
            process = self._started(words, log)
            while process.poll() is None and len(versions) < 2:
                time.sleep(0.002)
                with suppress(FileNotFoundError):
                    stat = file.stat()
                    versions.add((stat.st_ino, stat.st_mtime_ns))
            process.kill()
            process.wait()
        if len(versions) < 2 or not file.exists() or (self.folder / name).exists():
            raise Failed(self._failure(name, words, "ended before it could be killed"))

    def _started(self, words: list[str], log: Any) -> subprocess.Popen[bytes]:
        fixed = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONSAFEPATH": ""}
        environment = {**os.environ, **fixed, "PYTHONPATH": str(self.path)}
        command, where = [self.python, *words], self.folder
        return subprocess.Popen(command, cwd=where, env=environment, stdout=log, stderr=log)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _failure(self, name: str, words: list[str], what: str) -> str:
        end = self._log(name).read_text()[-3000:]
        return f"{self.folder.name}: python {shlex.join(words)}: {what}\n{end}"


@dataclass(kw_only=True)
class Outcome:
    """What a run came to: `seconds` of both trees, what differs, and why it `failed`, if so."""

    name: str
    seconds: list[float] = field(default_factory=list)
    masks: list[str] = field(default_factory=list)
    weights: list[str] = field(default_factory=list)
    fields: list[str] = field(default_factory=list)
    failed: str = ""

    def line(self) -> str:
        """Its line of the table."""
        if self.failed:
            return f"{self.name:18s} FAILED"
        same = ("NO" if found else "yes" for found in (self.masks, self.weights, self.fields))
        words = "  ".join(f"{word:>7s}" for word in same)
        return f"{self.name:18s} {words}  {self.seconds[0]:7.1f}  {self.seconds[1]:7.1f}"

    def faults(self) -> Iterator[str]:
        """All that is wrong."""
        if self.failed:
            yield f"{self.name}: {self.failed}"
        for kind in ("masks", "weights", "fields"):
            yield from (f"{self.name}: {kind}: {what}" for what in getattr(self, kind))


def outcome(name: str, trees: Sequence[Tree]) -> Outcome:
    """Make one run by all trees in turn, and compare the first with the last."""
    found = Outcome(name=name)
    try:
        found.seconds = [tree.run(name) for tree in trees]
        old, new = (tree.folder / name for tree in trees)
        found.masks = differing(old / "masks.safetensors", new / "masks.safetensors")
        found.weights = differing(old / "model.safetensors", new / "model.safetensors")
        records = [json.loads((run / "record.json").read_text()) for run in (old, new)]
        for key in FIELDS:
            before, after = (record.get(key, "missing") for record in records)
            if before != after:
                found.fields.append(f"{key} {before!r} -> {after!r}")
    except (Failed, OSError, ValueError) as error:
        found.failed = str(error)
    return found


def differing(old: Path, new: Path) -> list[str]:
    """Return the names of tensors that two files do not both hold with the same bits."""
    before, after = tensors(old), tensors(new)
    return sorted(n for n in before | after if before.get(n) != after.get(n))


def tensors(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """Return type, shape and bytes of every tensor of a safetensors file."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    header.pop("__metadata__", None)
    if not header:
        raise ValueError(f"{path} holds no tensors")
    found = {}
    for name, about in header.items():
        begin, end = about["data_offsets"]
        found[name] = (about["dtype"], about["shape"], raw[start + begin : start + end])
    return found


def needed(name: str) -> list[str]:
    """Return the runs whose folders a run reads."""
    return [w.split("/")[1] for w in RUNS[name].split() if w.startswith("./")]


@contextmanager
def checked_out(revision: str, given: Path | None, folder: Path) -> Iterator[Path]:
    """Yield a tree of a revision: the one given, or a worktree that goes away again."""
    if given is not None:
        yield given.resolve()
        return
    tree = folder / "base"
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(tree), revision], check=True)
    try:
        yield tree
    finally:
        subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def compared(names: Sequence[str], trees: Sequence[Tree], jobs: int) -> list[str]:
    """Make and compare runs, print the table, and return what is wrong."""
    print(f"{'run':18s}   masks  weights   record      old      new  (same; CPU seconds)")
    faults: list[str] = []
    first = [n for n in names if not needed(n)]
    with ThreadPoolExecutor(jobs) as pool:
        for wave in (first, [n for n in names if n not in first]):
            for found in pool.map(lambda name: outcome(name, trees), wave):
                print(found.line(), flush=True)
                faults += found.faults()
    return faults


def main() -> None:
    """Compare all runs, or those that --only names."""
    about = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=about, epilog=f"Runs: {', '.join(RUNS)}.")
    add = parser.add_argument
    add("--only", action="append", choices=[*RUNS], metavar="NAME", help="this run; repeatable")
    add("--keep", type=Path, metavar="DIR", help="new folder for all run folders and logs")
    add("--base", default=BASE, metavar="REV", help=f"the older commit [{BASE}]")
    add("--base-tree", type=Path, metavar="DIR", help="a tree of that commit that is there already")
    add("--python", default=sys.executable, help="interpreter of both trees [this one]")
    add("--jobs", type=int, default=2, help="runs at a time, of one thread each [2]")
    add("--twice", action="store_true", help="the older commit twice, this tree not at all")
    given = parser.parse_args()
    if given.keep and given.keep.exists():
        parser.error(f"{given.keep} exists")
    chosen = given.only or [*RUNS]
    names = [n for n in RUNS if n in {*chosen, *(m for c in chosen for m in needed(c))}]
    with (
        tempfile.TemporaryDirectory() as scratch,
        checked_out(given.base, given.base_tree, Path(scratch).resolve()) as base,
    ):
        folder = (given.keep or Path(scratch)).resolve()
        python = str(Path(shutil.which(given.python) or given.python).absolute())
        old = Tree(path=base, folder=folder / "old", python=python, words=old_words, file=old_file)
        new = Tree(path=ROOT, folder=folder / "new", python=python, words=list, file=str)
        if given.twice:
            new = replace(old, folder=new.folder)
        try:
            old.open()
            new.open()
        except Failed as error:
            sys.exit(str(error))
        faults = compared(names, (old, new), given.jobs)
    print("\n".join(faults) or f"{len(names)} runs: the same bits")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
