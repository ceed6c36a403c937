"""A solver of one's own, named by its place: on the command line, in run files and in sweeps."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.program import chita as invoke

SOURCE = '''
"""Weights by some power of their size."""
from typing import ClassVar

from chita.options import option
from chita.solvers.solver import Selection


class Smallest(Selection):
    """Keeps the smallest weights, or with `turned` the largest."""

    turned: bool = option(False, "Keep the largest.")
    curvatures: ClassVar = ()

    def values(self, problem):
        return problem.w_bar if self.turned else 1 / problem.w_bar
'''
NAME = "own_smallest_of_test:Smallest"
RUN = ("prune", "--sparsity", 0.5, "--solver", NAME, "--force", "--out", "run")


DECORATED = SOURCE.replace(
    "class Smallest", "from dataclasses import dataclass\n\n@dataclass(frozen=True)\nclass Smallest"
)


@pytest.fixture(autouse=True, params=[SOURCE, DECORATED], ids=["plain", "decorated"])
def own(request, tmp_path, monkeypatch):
    (tmp_path / "own_smallest_of_test.py").write_text(request.param)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    yield
    sys.modules.pop("own_smallest_of_test", None)


def masks(folder="run"):
    return load_file(f"{folder}/masks.safetensors")


def test_it_runs_with_its_options_and_the_record_names_it():
    assert invoke(*RUN).exit_code == 0
    smallest = masks()
    assert invoke(*RUN, "--option", "turned=true").exit_code == 0
    turned = masks()
    assert invoke("prune", "--sparsity", 0.5, "--solver", "magnitude", "--out", "m").exit_code == 0
    for name, mask in masks("m").items():
        assert mask.equal(turned[name])
        assert not mask.equal(smallest[name])
    record = json.loads(Path("run/record.json").read_text())
    assert record["solver"] == NAME
    assert record["options"] == {"bound": False, "turned": True}
    assert f"--solver {NAME}" in record["repeat"]


def test_its_options_are_listed_and_wrong_ones_refused():
    assert "Keep the largest." in invoke("solvers", NAME).stdout
    done = invoke(*RUN, "--option", "truned=true")
    assert done.exit_code == 2
    assert "Did you mean turned?" in done.stderr
    done = invoke("prune", "--sparsity", 0.5, "--solver", "own_smallest_of_test:Largest")
    assert done.exit_code == 2
    assert "Largest" in done.stderr


def test_it_runs_in_a_sweep():
    Path("grid.toml").write_text(f'sparsity = 0.5\n[sweep]\nsolver = ["{NAME}", "magnitude"]\n')
    done = invoke("sweep", "grid.toml", "--out", "runs.jsonl", "--jobs", 1)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in Path("runs.jsonl").read_text().splitlines()]
    assert [line["solver"] for line in lines] == [NAME, "magnitude"]
