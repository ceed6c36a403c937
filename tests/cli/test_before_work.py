"""What commands refuse is refused before the work: samples that a network is shown are counted."""

from pathlib import Path
from unittest import mock

import pytest

import chita
import chita.cli.session
from chita.data.digits import digits
from chita.pruning import room
from tests.program import chita as invoke
from tests.pruning.test_before_work import Stopping, counting

PRUNE = ("prune", "--solver", "bso", "--sparsity", 0.5, "--stages", 2, "--samples", 60)
MASK = ("--mask", "masks.safetensors")
NOTHING = [  # refused before any pass
    ((*PRUNE, "--out", "run"), "holds the finished part of an earlier run"),
    ((*PRUNE, "--out", "run", "--resume"), "was written under other settings"),
    ((*PRUNE, "--out", "taken"), "is not a run folder"),
    ((*PRUNE, "--out", "taken/file/run"), "is a file"),
    ((*PRUNE, "--resume"), "name it with --out"),
    (("refit", *MASK, "--out", "taken"), "is not a run folder"),
    (("refit", *MASK, "--samples", 9000), "need 9000 samples"),
    (("apply", *MASK, "--out", "taken"), "is not a run folder"),
    (("sensitivity", "--out", "taken"), "is not a run folder"),
    (("sensitivity", "--plot", "none/heat.png"), "is no folder"),
    (("sensitivity", "--plot", "heat.doc"), "is no kind of picture"),
    (("sensitivity", "--solver", "wanda"), "only prunes layer by layer"),
]
A_FEW = [  # refused after passes of a few samples
    (PRUNE, "a run may take 0.0 GB"),
    (("prune", "--samples", 60, "--max-loss", 1), "a run may take 0.0 GB"),
    (("refit", *MASK, "--samples", 60), "a run may take 0.0 GB"),
    (("sensitivity", "--samples", 60), "a run may take 0.0 GB"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What was left of a run that was stopped, and masks."""
    folder, model, data = tmp_path_factory.mktemp("files"), chita.load_model("digits-mlp"), digits()
    stopped = {"evaluation": data[1], "checkpoint": folder / "left", "progress": Stopping()}
    with pytest.raises(KeyboardInterrupt):
        chita.prune(model, data[0], sparsity=0.5, stages=3, solver="magnitude", **stopped)
    chita.prune(model, sparsity=0.5, solver="magnitude").save(folder / "run")
    found = {"run.unfinished": folder / "left", MASK[1]: folder / "run" / MASK[1]}
    return {name: path.read_bytes() for name, path in found.items()}


@pytest.fixture
def shown(files, tmp_path, monkeypatch):
    """The samples of each pass of the network, in a folder with such files."""
    monkeypatch.chdir(tmp_path)
    Path("taken").mkdir()
    for name, content in {**files, "taken/file": b""}.items():
        Path(name).write_bytes(content)
    model, sizes = chita.load_model("digits-mlp"), []
    model.register_forward_pre_hook(counting(sizes))
    with mock.patch.object(chita.cli.session, "load_network", return_value=(model, ())):
        yield sizes


def refused(arguments, told):
    done = invoke(*arguments)
    assert done.exit_code == 2, done.output
    assert told in " ".join(done.stderr.split())


@pytest.mark.parametrize(("arguments", "told"), NOTHING)
def test_nothing_is_shown(arguments, told, shown):
    refused(arguments, told)
    assert shown == []


@pytest.mark.parametrize(("arguments", "told"), A_FEW)
def test_a_few_samples_are_shown(arguments, told, shown, monkeypatch):
    monkeypatch.setattr(room, "available_memory", lambda: -1)
    refused(arguments, told)
    assert 0 < sum(shown) <= 40, shown  # of 500 that are measured, 60 that make gradients


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--plot", "none/plot.png"), "is no folder"),
        (("--plot", "plot.doc"), "is no kind of picture"),
        (("--curves", "none/curves.svg"), "is no folder"),
        (("--table", "none/table.md"), "is no folder"),
    ],
)
def test_a_sweep_does_no_run(options, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("g.toml").write_text("sparsity = 0.9\n[sweep]\nsolver = ['magnitude']\n")
    refused(("sweep", "g.toml", "--out", "r.jsonl", *options), told)
    assert Path("r.jsonl").read_bytes() == b""
