"""`chita sensitivity` as a user runs it."""

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from chita.reports.terminal import show_sensitivity
from chita.sensitivity_record import SensitivityRecord
from tests.cli.refusals import refused
from tests.program import chita as invoke

QUICK = ("sensitivity", "--solver", "magnitude", "--validation", "40", "--seed", "3")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def ran(*arguments):
    done = invoke(*arguments)
    assert done.exit_code == 0, done.output
    return done


def test_a_table_of_numbers_without_escape_codes_where_there_is_no_terminal():
    done = ran(*QUICK, "--sparsities", "0.9,0.5,0")
    lines = [line for line in done.stdout.splitlines() if "weight" in line]
    assert [line.split("│")[1].strip() for line in lines[1:]] == [
        *("fc1.weight", "fc2.weight", "fc3.weight")
    ]
    assert lines[0].replace("┃", "").split() == ["tensor", "weights", "0.5", "0.9"]
    for line in lines[1:]:
        half, most = (float(cell) for cell in line.split("│")[3:5])
        assert 0 < half < most
    assert "cross_entropy of the dense network" in done.stdout
    assert "40 validation samples" in done.stdout
    assert "measure: 6 of 6 levels" in done.stderr
    assert "\x1b" not in done.output


def test_a_terminal_has_a_colour_for_every_cell():
    record = SensitivityRecord.model_validate_json(ran(*QUICK, "--json").stdout)
    levels = [
        level.model_copy(update={"loss": -level.loss}) if level.tensor == "fc2.weight" else level
        for level in record.levels
        if (level.tensor, level.sparsity) != ("fc3.weight", 0.9)
    ]
    record = record.model_copy(update={"levels": levels})
    shown = {}
    for system in ("truecolor", "standard"):
        screen = Console(file=io.StringIO(), force_terminal=True, color_system=system, width=100)
        show_sensitivity(record, screen)
        shown[system] = screen.file.getvalue()
    first, second, third = (
        next(line for line in shown["truecolor"].splitlines() if f"fc{i}.weight" in line)
        for i in (1, 2, 3)
    )
    assert first.count("48;2;") == second.count("48;2;") == 5
    assert third.count("48;2;") == 4
    assert " ? " in third.split("│")[6]
    assert "?: no system could be solved" in shown["truecolor"]
    # A red of growth has less blue than red in it, and a blue of decline the other way round.
    for line, sign in ((first, 1), (second, -1)):
        for part in line.split("48;2;")[1:]:
            red, _, blue = map(int, part.split("m")[0].split(";"))
            assert sign * (red - blue) > 0
    assert "\x1b[1;31m" in shown["standard"]
    assert "\x1b[34m" in shown["standard"]
    assert "48;" not in shown["standard"]


def test_the_files_serve_a_pruning_and_a_report():
    pytest.importorskip("matplotlib")
    done = ran(*QUICK, "--json", "--out", "folder", "--plot", "heat.png")
    assert len(done.stdout.splitlines()) == 1
    assert json.loads(done.stdout) == json.loads(Path("folder/record.json").read_text())
    record = SensitivityRecord.model_validate_json(done.stdout)
    assert (record.model, record.data) == ("digits-mlp", "digits")
    assert record.settings["solver"] == "magnitude"
    assert record.sparsities == (0.5, 0.7, 0.8, 0.9, 0.95)
    assert set(record.seconds) == {"load", "collect", "measure", "other", "total"}
    assert Path("heat.png").stat().st_size > 1000
    ran(*QUICK, "--out", "levels.csv")
    assert Path("levels.csv").read_bytes() == Path("folder/levels.csv").read_bytes()
    budget = ("--sparsity", "0.8", "--solver", "magnitude", "--out", "pruned")
    ran("prune", "--per-layer", "levels.csv", *budget)
    pruned = json.loads(Path("pruned/record.json").read_text())
    assert pruned["nnz"] == 3404
    assert pruned["levels"] == [level.model_dump() for level in record.levels]


def test_a_file_of_settings_and_the_command_line_that_overrides_it():
    Path("run.toml").write_text(
        'solver = "iht"\nsparsities = [0.5, 0.7]\nsamples = 20\nvalidation = 30\n'
        'targets = ["fc3"]\n'
        "[options]\nmax_iterations = 2\n"
    )
    done = ran("sensitivity", "--config", "run.toml", "--sparsities", "0.6", "--json")
    printed = json.loads(done.stdout)
    assert [tensor["name"] for tensor in printed["tensors"]] == ["fc3.weight"]
    assert (printed["sparsities"], printed["solver"], printed["samples"]) == ([0.6], "iht", 20)
    assert (printed["options"]["max_iterations"], printed["validation"]) == (2, 30)
    Path("run.toml").write_text("first_order = 1.0\n")
    assert "'first_order': Known: " in refused("sensitivity", "--config", "run.toml", idle=True)
    Path("run.toml").write_text("sparsity = 0.9\n")
    assert "'sparsity': Did you mean sparsities" in refused(
        "sensitivity", "--config", "run.toml", idle=True
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--sparsities", "0.5,1"], "is 1.0; "),
        (["--sparsities", "0.5,-0.1"], "is -0.1; "),
        (["--sparsities", "nan"], "is 'nan'; give numbers with commas"),
        (["--sparsities", "0.8,0.5,0.8"], "sparsities has 0.8 twice"),
        (["--sparsities", "0.50,0.5"], "sparsities has 0.5 twice"),
        (["--sparsities", "0"], "give one above 0"),
        (["--sparsities", ""], "sparsities is ''"),
        (["--sparsities", "half"], "sparsities is 'half'"),
        (["--validation", "0"], "--validation is 0, but the loss is measured"),
        (["--validation", "-1"], "--validation is -1"),
        (["--samples", "1290", "--validation", "40"], "1290 of 1297 samples would make"),
        (["--solver", "alps"], "alps only prunes layer by layer"),
        (["--solver", "magnitud"], "Did you mean magnitude"),
        (["--option", "speed=3"], "magnitude: There is no option 'speed'"),
        (["--ridge", "strong"], "ridge is 'strong'"),
        (["--targets", "fcc1"], "'fcc1' (did you mean fc1?)"),
        (["--model", "digits-mpl"], "Did you mean digits-mlp"),
        (["--data", "digit"], "Did you mean digits"),
        (["--plot", "heat"], "heat is no kind of picture"),
        (["--plot", "none/heat.png"], "none is no folder. Make it first."),
        (
            ["--out", "levels"],
            "levels exists. Choose another path, or replace it with --force.",
        ),
        (
            ["--out", "old.csv"],
            "old.csv exists. Choose another path, or replace it with --force.",
        ),
        (["--out", "folder.csv", "--force"], "folder.csv exists and is no file"),
        (["--out", "none/levels.csv"], "none is no folder. Make it first."),
        (["--out", "file/x.csv"], "file is no folder"),
        (["--out", "file", "--force"], "is not a run folder, so force does not replace it"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_work(given, told):
    if "--plot" in given:
        pytest.importorskip("matplotlib")
    Path("folder.csv").mkdir()
    Path("levels").mkdir()
    Path("levels/record.json").write_text("{}")
    Path("old.csv").write_text("tensor,sparsity,loss\n")
    Path("file").write_text("kept")
    message = refused(*QUICK, *given, idle=True)
    assert told in message
    assert "\n" not in message


def test_a_network_without_data(tmp_path, monkeypatch):
    Path("own.py").write_text("from chita.models.digits import DigitsMLP as network\n")
    monkeypatch.syspath_prepend(tmp_path)
    told = refused(*QUICK, "--model", "own:network", idle=True)
    assert "own:network has no data of its own. Name them with --data." in told


def test_what_exists_is_replaced_when_that_is_asked_for():
    Path("old.csv").write_text("old")
    for _ in range(2):
        ran(*QUICK, "--sparsities", "0.5", "--out", "old.csv", "--force")
        ran(*QUICK, "--sparsities", "0.5", "--out", "folder", "--force")
    assert Path("old.csv").read_bytes() == Path("folder/levels.csv").read_bytes()
