"""The solver of docs/add_a_solver.md goes into the package, and runs from outside."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.docs.page import PAGES, ROOT, blocks_of

PAGE = PAGES["add_a_solver.md"].read_text()
SOURCE, SWEEP = (
    next(block.text for block in blocks_of(PAGE) if block.text.startswith(f"# {name}\n"))
    for name in ("one.py", "seeds.toml")
)
FEW = ("--model", "digits-mlp", "--sparsity", "0.9", "--samples", "40", "--ridge", "0.01")


def run(folder, *arguments):
    """What a program prints in a folder, by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("package", ["chita/solvers", "chita/solvers/baselines"])
def test_its_steps_give_it_a_name_in_the_package(tmp_path, package):
    for name in ("chita", "tests", "conftest.py", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, tmp_path / name)
    folder = tmp_path / package
    (folder / "one_by_one.py").write_text(SOURCE)  # step 1
    table = folder / "__init__.py"  # step 2
    text = table.read_text()
    line = f"from {package.replace('/', '.')}.one_by_one import OneByOne\n"
    text = text.replace("from chita.solvers.solver ", f"{line}from chita.solvers.solver ", 1)
    text = re.sub(r"(?<=type\[Solver\]\] = \{\n)", '    "one-by-one": OneByOne,\n', text)
    text = re.sub(r"(?<=__all__ = \[)", '"OneByOne", ', text)
    table.write_text(text)
    told = run(tmp_path, "chita", "solvers", "one-by-one")
    assert "one-by-one prunes all or layers: Exchanges of single weights" in told
    assert "max_rounds" in told
    given = (*FEW, "--solver", "one-by-one", "--option", "max_rounds=2", "--json")
    found = json.loads(run(tmp_path, "chita", "prune", *given))
    assert (found["solver"], found["nnz"]) == ("one-by-one", 1702)
    checks = "tests/conformance/test_table.py::test_every_file_is_in_the_table"
    run(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts=", checks)


def test_from_outside_it_runs_in_a_sweep_that_goes_on(tmp_path):
    (tmp_path / "one.py").write_text(SOURCE)
    grid = SWEEP.replace("100", "40").replace("[0, 1, 2]", "[7]")
    assert grid != SWEEP
    (tmp_path / "seeds.toml").write_text(f"ridge = 0.01\n{grid}")
    arguments = ("chita", "sweep", "seeds.toml", "--out", "seeds.jsonl", "--jobs", "1")
    run(tmp_path, *arguments)
    results = tmp_path / "seeds.jsonl"
    lines = {json.loads(text)["solver"]: text for text in results.read_text().splitlines()}
    assert lines.keys() == {"one:OneByOne", "magnitude"}
    results.write_text(lines["one:OneByOne"] + "\n")  # as where the second run was killed
    run(tmp_path, *arguments, "--table", "seeds.md")
    own, other = results.read_text().splitlines()
    assert own == lines["one:OneByOne"]
    assert json.loads(other)["solver"] == "magnitude"
    table = (tmp_path / "seeds.md").read_text()
    assert re.search(r"^\| one:OneByOne \| \d+\.\d+ \|$", table, re.MULTILINE), table
