"""Every command and every snippet of every page does what the page says, and figures are true."""

import ast
import os
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest

import chita
from chita.cli.app import COMMANDS
from chita.cli.grid import read_grid
from chita.settings import leaves
from chita.solvers import SOLVERS
from tests.docs.page import (
    DOCS,
    PAGES,
    RENAMED_BY_TRANSFORMERS,
    ROOT,
    Reader,
    blocks_of,
    in_folder,
    prose_of,
)
from tests.text import saved, written

README = (ROOT / "README.md").read_text()
LONG = {f"tasks/{name}.md" for name in ("export", "fine_tuning", "flops", "two_four")}
every_page = pytest.mark.parametrize("name", PAGES)


@RENAMED_BY_TRANSFORMERS
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow if n in LONG else ()) for n in PAGES]
)
def test_a_page_can_be_followed(name, tmp_path):
    follow(name, tmp_path, Reader())


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, p in PAGES.items() if "<!-- slow -->" in p.read_text()])
def test_a_page_can_be_followed_to_its_end(name, tmp_path):
    follow(name, tmp_path, Reader(patient=True))


def follow(name, tmp_path, reader):
    """Do what a page says."""
    if "CHITA_DATA" in os.environ:
        (tmp_path / "DATA").symlink_to(Path(os.environ["CHITA_DATA"]).absolute())
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    with in_folder(tmp_path):
        for block in blocks_of(PAGES[name].read_text()):
            if block.language:
                reader.follow(block)


@every_page
def test_nothing_is_left_unrun_in_silence(name):
    text = PAGES[name].read_text()
    blocks = blocks_of(text)
    assert text.count("```") == 2 * len(blocks), "a fence that is indented, or not closed"
    for block in blocks:
        assert block.language in {"", "sh", "python", "toml", "text"}
        if block.note:
            assert re.fullmatch(r"needs data|slow|not run: \w.+", block.note)
        check_words(block)
    comments = re.findall(r"<!-- (?:not run|needs data|slow).*?-->", text)
    assert len(comments) == sum(bool(block.note) for block in blocks), "a mark without a block"


def check_words(block):
    """That also what is not run here is what the program and Python understand."""
    if block.language == "python":
        ast.parse(block.text)
    if block.language == "toml":
        tomllib.loads(block.text)
    for command in block.commands if block.language == "sh" else ():
        if command.startswith("chita "):
            check_options(command)


def check_options(command):
    """That a command is one, and that its options are among those that it has."""
    _, name, *rest = shlex.split(command, comments=True)
    assert name in COMMANDS, command
    shown = [leaf for leaf in leaves(COMMANDS[name]) if leaf.group.part.shown]
    options = {leaf.flag for leaf in shown}
    options |= {leaf.negative for leaf in shown if bool in leaf.entry.kinds}
    given = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert given - {"--help"} <= options, (command, given - options)


@pytest.mark.parametrize("name", [*PAGES, "../README.md"])
def test_commands_within_sentences_are_understood(name):
    told = re.findall(r"`(chita [a-z][^`]*)`", prose_of((DOCS / name).read_text()))
    for command in told:
        check_options(command.replace("...", "").replace("\n", " "))


WRITTEN = (
    "architecture.md",
    "design-notes/command_line.md",
    "formats.md",
    "solvers.md",
    "networks.md",
    "performance.md",
)
"""Pages whose tables commands write, or other tests check, or that say what was measured once."""


@pytest.mark.parametrize("name", [n for n in PAGES if n not in WRITTEN])
def test_figures_are_lines_of_tables_that_commands_wrote(name):
    text = PAGES[name].read_text()
    tables = re.findall(r"(?:^<!-- ([\w/.-]+\.md) -->\n\n)?((?:^\|.*\n)+)", text, re.MULTILINE)
    sources = ""
    for source, table in tables:
        if not source:
            assert not re.search(r"\d\.\d", table), f"a table of figures without a source: {table}"
            continue
        wrote = (ROOT / source).read_text()
        lines = (ROOT / source).with_suffix(".jsonl")  # the runs, which tell the dense network's
        sources += wrote + (lines.read_text() if lines.exists() else "")
        assert all(line in wrote.splitlines() for line in table.splitlines()), (source, table)
    prose = re.sub(r"`[^`]*`|Python 3.11|^\|.*\n", "", prose_of(text), flags=re.MULTILINE)
    for figure in re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)", prose):
        assert figure in sources, f"{figure} stands in no table that the page shows a part of"


def test_all_that_is_public_is_told():
    told = re.findall(r"^::: (.*)$", PAGES["api.md"].read_text(), re.MULTILINE)
    assert sorted(told) == sorted([
        *(f"chita.{n}" for n in chita.__all__ if n != "solvers"),
        *(f"{kind.__module__.rpartition('.')[0]}.{kind.__name__}" for kind in SOLVERS.values()),
        "chita.records.RunRecord",
        "chita.sensitivity_record.SensitivityRecord",
    ])


def test_the_table_of_extras_is_that_of_the_package():
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGES["index.md"].read_text(), re.MULTILINE)
    assert [name for name, _ in rows] == [*told["optional-dependencies"]]
    for name, libraries in rows[:-1]:
        own = ",".join(told["optional-dependencies"][name])
        expected = re.sub(r"chita\[(.*?)\]", r"\1", own).replace("[python]", "").split(",")
        assert re.findall(r"[\w-]+", libraries.replace(" and ", " ")) == expected


# README is run by tests/test_readme.py; here, what that leaves.
RUN_THERE = (
    "make demo",
    "import chita\nfrom chita.data.digits import digits\n",
    "chita prune --model digits-cnn --sparsity 0.8 --out pruned",
    "cd examples",
    'model = "digits-cnn"',
    "chita prune --config run.toml --out gradual",
    "import torch\nimport chita",
    "chita verify",
    "chita prune --model digits-cnn --sparsity 0.9",
    "chita export seen",
)
SWEEP, TRANSFORMERS = "samples = 500\n[sweep]", "pip install '.[hf]'"


def test_no_block_of_readme_is_left_out():
    blocks = [block for block in blocks_of(README) if block.language]
    for block in blocks:
        known = (*RUN_THERE, SWEEP, TRANSFORMERS)
        assert block.text.startswith(known), f"who runs this block of README?\n{block.text}"


def readme(beginning):
    """The block of README that begins so."""
    return next(b.text for b in blocks_of(README) if b.text.startswith(beginning))


def test_the_sweep_of_readme_is_one(tmp_path):
    (tmp_path / "sweep.toml").write_text(readme(SWEEP))
    assert len(read_grid(tmp_path / "sweep.toml")) == 30


def test_the_transformer_of_readme_is_pruned_as_written(tmp_path):
    pytest.importorskip("transformers")
    saved("decoder", tmp_path / "FOLDER")
    written(tmp_path / "wikitext-2")
    lines = (tmp_path / "wikitext-2" / "train.txt").read_text()
    (tmp_path / "wikitext-2" / "train.txt").write_text("\n".join([lines] * 10))
    install, command = readme(TRANSFORMERS).splitlines()
    assert install == TRANSFORMERS
    with in_folder(tmp_path):
        Reader().run(command)
    assert (tmp_path / "pruned" / "config.json").exists()
