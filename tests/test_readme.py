"""README says what is true: its example runs, its files and commands exist."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from chita.masks.storage import load_masks
from tests.program import chita

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_the_example_runs_as_written(tmp_path, monkeypatch, capsys):
    example, training = blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "README.md", "exec"), {})
    assert "851 of 17024 weights kept" in capsys.readouterr().out
    assert (tmp_path / "pruned" / "model.safetensors").exists()
    names: dict[str, object] = {}
    exec(compile(training, "README.md", "exec"), names)
    names["model"](torch.ones(1, 1, 8, 8)).sum().backward()
    names["optimizer"].step()
    masks = load_masks(tmp_path / "sparse" / "masks.safetensors")
    assert not any(names["model"].get_parameter(n)[~mask].any() for n, mask in masks.items())


@pytest.mark.slow
def test_the_training_example_runs_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(next(text for text in blocks("toml") if "[training]" in text))
    gradual, verifying = (text for text in blocks("sh") if "gradual" in text or "verify" in text)
    for command in gradual.splitlines():
        arguments = shlex.split(command, comments=True)[1:]
        done = chita(*arguments)
        assert done.exit_code == 0, (command, done.output)
    Path("gradual").rename("pruned")
    shutil.copytree("pruned", "checkpoint-200")
    for command in verifying.splitlines():
        done = chita(*shlex.split(command, comments=True)[1:])
        assert done.exit_code == 0, (command, done.output)


def test_the_figures_are_lines_of_the_tables_that_commands_wrote():
    shown = re.findall(r"^<!-- (reproduce/.*?\.md) -->\n\n((?:\|.*\n)+)", README, re.MULTILINE)
    names = (
        "mlpnet-1000",
        "mlpnet-4000",
        "falcon-resnet20",
        "patterns-resnet20",
        "published-mlpnet",
        "peers-mlpnet",
        "peers-resnet20",
        "staged-resnet20",
        "gradual-resnet20",
        "layers-decoder",
    )
    assert [name for name, _ in shown] == [f"reproduce/{name}.md" for name in names]
    for name, lines in shown:
        written = (ROOT / name).read_text().partition("Seconds")[0].splitlines()
        assert len(lines.splitlines()) > 3
        assert all(line in written for line in lines.splitlines())


HEAVY = ("--stages 20", "--solver iht --json", "--max-loss 1")  # a quarter of a minute each


@pytest.mark.parametrize("heavy", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_commands_run_as_written(heavy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text('sparsity = 0.9\nsolver = "iht"\n[options]\nmax_iterations = 3\n')
    commands = [line for line in blocks("sh")[1].splitlines() if line.startswith("chita ")]
    assert len(commands) == 9
    for command in commands:
        passed = not heavy and any(words in command for words in HEAVY)
        if "mnist" not in command and not passed:  # shown with the real data in test_cli
            done = chita(*shlex.split(command, comments=True)[1:])
            assert done.exit_code == 0, (command, done.output)


@pytest.mark.slow
def test_a_page_and_files_are_made_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in (blocks("sh")[2] + blocks("sh")[3]).splitlines():
        done = chita(*shlex.split(command, comments=True)[1:])
        assert done.exit_code == 0, (command, done.output)
    assert "mnn: " in done.stdout
    assert Path("seen.chita").stat().st_size < Path("seen/model.safetensors").stat().st_size / 4
    page = Path("page.html").read_text()
    assert page.count("<figure ") > 3
    assert len([*Path("plots").glob("*.svg")]) == page.count("<figure ")
    for picture in re.findall(r"\(docs/pictures/(.*?)\)", README):
        assert (ROOT / "docs/pictures" / picture).exists()


@pytest.mark.slow
def test_the_example_of_an_own_network_runs_as_written(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.setattr(sys, "path", [*sys.path])
    change, *commands = (line.split("#")[0].strip() for line in blocks("sh")[4].splitlines())
    assert change == "cd examples"
    monkeypatch.chdir(tmp_path / "examples")
    assert [shlex.split(c)[:2] for c in commands] == [
        ["python", "own_network.py"],
        *(["chita", name] for name in ("plan", "prune", "prune", "refit", "apply")),
    ]
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "python":
            subprocess.run([sys.executable, *arguments], check=True)
            continue
        done = chita(*arguments)
        assert done.exit_code == 0, (command, done.output)
        assert arguments[0] == "plan" or "mean squared error: " in done.stdout
    assert (tmp_path / "examples" / "pruned" / "masks.safetensors").exists()


@pytest.mark.parametrize("target", ["demo", "test"])
def test_the_two_commands_are_targets(target):
    assert f"make {target}" in blocks("sh")[0]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_links_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert (page.parent / link).exists(), (page.name, link)


@pytest.mark.slow
def test_the_table_of_the_demo_is_what_it_prints():
    printed = chita("demo").stdout
    shown = README.split("<!-- demo -->")[1].split("```")[1]

    def accuracies(text):
        """(network, solver) to the accuracies of its line."""
        lines = [line.strip("│ ").split("│") for line in text.splitlines() if "│ digits" in line]
        return {(a.strip(), b.strip()): [float(x) for x in rest] for a, b, *rest in lines}

    found, claimed = accuracies(printed), accuracies(shown)
    assert found.keys() == claimed.keys()
    for row, values in claimed.items():
        assert found[row][:4] == pytest.approx(values[:4], abs=3.0)
