"""The command line in a record gives the same settings again."""

import json
import shlex

import pytest
import typer
from typer.testing import CliRunner

from chita.cli.app import app
from chita.cli.repeat import command_of
from chita.cli.settings import PruneSettings, merge_settings
from chita.pruning.pose import make_solver
from chita.training.recipe import Training

CASES = [
    {"sparsity": 0.9},
    {"nnz": 100, "seed": 3, "regrow": False, "bn_recalibrate": False, "layerwise": False},
    {"layerwise": True, "method": "iht", "options": {"max_iterations": 3}},
    {"pattern": "2:4", "targets": ("a*", "re:b.*"), "ignore": ("a b",), "weights": "it's/here"},
    {"sparsity": 0.5, "schedule": "0.1,0.5", "stages": 2, "image_mean": (0.5, 0.25)},
    {"flops": 0.3, "sparsity": 0.7, "training": Training(epochs=9, rate=0.01, restarts=True)},
    {"sparsity": 0.5, "training": Training(), "ridge": "0.1x", "first_order": "0.0", "step": "1.0"},
]


@pytest.mark.parametrize("given", CASES, ids="-".join)
def test_a_line_read_again_gives_the_same_settings(given):
    settings = merge_settings(PruneSettings, None, given)
    program, command, *arguments = shlex.split(command_of("prune", settings))
    assert (program, command) == ("chita", "prune")
    group = typer.main.get_command(app)
    found = group.commands["prune"].make_context("prune", arguments).params
    read = {name: None if value == () else value for name, value in found.items()}  # as typer does
    again = merge_settings(PruneSettings, None, read, read["option"] or [], read["train"] or [])
    solvers = {make_solver(found.method, found.options) for found in (again, settings)}
    assert len(solvers) == 1  # a solver reads its options from text, too
    assert again.model_dump(exclude={"options"}) == settings.model_dump(exclude={"options"})


def test_what_a_file_alone_can_say_has_no_line():
    assert command_of("prune", PruneSettings(per_layer={"a": 0.5})) is None


def test_a_record_repeats_its_run(tmp_path):
    asked = f"prune --nnz 1000 --method magnitude --seed 4 --out {tmp_path / 'first'}"
    assert CliRunner().invoke(app, shlex.split(asked)).exit_code == 0
    record = json.loads((tmp_path / "first" / "record.json").read_text())
    assert "--out" not in record["repeat"]  # as it stands it replaces nothing
    _, *again = shlex.split(record["repeat"])
    done = CliRunner().invoke(app, [*again, "--out", str(tmp_path / "second")])
    assert done.exit_code == 0
    first, second = (tmp_path / name / "model.safetensors" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
