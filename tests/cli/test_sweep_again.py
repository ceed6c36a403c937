"""Sweeps of which only some runs are done, and results beside earlier ones."""

import json
import pathlib

import pytest

from tests.cli.refusals import refused
from tests.program import chita as invoke


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def lines():
    with pathlib.Path("r.jsonl").open() as file:
        return [json.loads(line) for line in file]


SMALL = """
samples = 60
validation = 0
ridge = 0.02
first_order = 0.0
step_size = 1.0
structure = "full"
[sweep]
solver = ["bso", "magnitude"]
sparsity = [0.5, 0.9]
"""


def test_only_some_runs_are_done_and_compared_with_earlier_ones(tmp_path):
    (tmp_path / "g.toml").write_text(SMALL)
    arguments = ["sweep", "g.toml", "--jobs", "1"]
    done = invoke(*arguments, "--out", "r.jsonl")
    assert done.exit_code == 0, done.output
    committed = pathlib.Path("r.jsonl").read_bytes()
    changed = [
        {**line, "pruned_metric": line["pruned_metric"] - 1.5} for line in lines()
        if line["run"] != {"solver": "magnitude", "sparsity": 0.9}
    ]  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in changed)
    pathlib.Path("before.jsonl").write_text(text)
    only = ["--only", "solver=magnitude", "--only", "sparsity=0.5", "--only", "sparsity=0.9"]
    done = invoke(*arguments, *only, "--out", "again.jsonl", "--compare", "before.jsonl")
    assert done.exit_code == 0, done.output
    again = [
        json.loads(line)["run"] for line in pathlib.Path("again.jsonl").read_text().split("\n")[:-1]
    ]
    assert again == [{"solver": "magnitude", "sparsity": s} for s in (0.5, 0.9)]
    assert "difference from before.jsonl" in done.output
    row = next(line for line in reversed(done.output.splitlines()) if "│ magnitude" in line)
    assert [cell.strip() for cell in row.split("│")[2:4]] == ["+1.50", "new"]
    assert pathlib.Path("before.jsonl").read_text() == text
    assert pathlib.Path("r.jsonl").read_bytes() == committed


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ("solvers=bso", "which is not varied. Did you mean solver?"),
        ("solver=bsoo", "no run has that. Did you mean bso?"),
        ("samples=60", "not varied"),
        ("bso", "not varied"),
    ],
)
def test_only_names_what_is_varied(tmp_path, only, words):
    (tmp_path / "g.toml").write_text(SMALL)
    assert words in refused("sweep", "g.toml", "--out", "r.jsonl", "--only", only)
    assert not pathlib.Path("r.jsonl").exists()
    assert "cannot be read as results" in refused(
        "sweep", "g.toml", "--out", "r.jsonl", "--compare", "absent.jsonl"
    )
