"""The command line in a record gives the same settings again."""

import json
import shlex

import pytest

from chita.cli.repeat import command_of
from chita.cli.requests import PruneRequest
from chita.settings import request_of, settings_of
from chita.solvers.named import make_solver
from tests.program import chita as invoke

CASES = [
    {"sparsity": 0.9},
    {"nnz": 100, "seed": 3, "regrow": False, "bn_recalibrate": False, "layerwise": False},
    {"layerwise": True, "solver": "iht", "options": {"max_iterations": 3, "bound": True}},
    {"pattern": "2:4", "targets": ("a*", "re:b.*"), "ignore": ("a b",), "weights": "it's/here"},
    {"sparsity": 0.5, "ignore": ["-x", "fc1"], "data": "--odd"},
    {"sparsity": 0.5, "schedule": "0.1,0.5", "stages": 2, "image_mean": (0.5, 0.25)},
    {"flops": 0.3, "sparsity": 0.7, "training": {"epochs": 9, "rate": 0.01, "restarts": False}},
    {"sparsity": 0.5, "training": {}, "ridge": "0.1x", "first_order": 0.0, "step_size": 1.0},
    {"storage": "bfloat16", "max_memory": 0.5, "device": "cuda:1", "allow_pickle": True},
]


@pytest.mark.parametrize("given", CASES, ids="-".join)
def test_a_line_read_again_gives_the_same_request(given, monkeypatch):
    request = request_of(PruneRequest, given)
    program, *arguments = shlex.split(command_of("prune", request))
    assert (program, arguments[0]) == ("chita", "prune")
    read = []
    monkeypatch.setattr("chita.cli.prune.prune", read.append)
    assert invoke(*arguments).exit_code == 0
    again, first = settings_of(read[0]), settings_of(request)
    options = [settings.pop("options") for settings in (again, first)]
    assert again == first
    solver = given.get("solver", "chita")
    one, other = (make_solver(solver, own) for own in options)  # which also reads texts
    assert one == other


def test_what_only_a_file_can_say_has_no_line():
    request = request_of(PruneRequest, {"per_layer": {"a": 0.5}})
    assert command_of("prune", request) is None


def test_a_record_repeats_its_run(tmp_path):
    asked = f"prune --nnz 1000 --solver magnitude --seed 4 --out {tmp_path / 'first'}"
    assert invoke(*shlex.split(asked)).exit_code == 0
    record = json.loads((tmp_path / "first" / "record.json").read_text())
    assert "--out" not in record["repeat"]  # as it stands it replaces nothing
    _, *again = shlex.split(record["repeat"])
    done = invoke(*again, "--out", str(tmp_path / "second"))
    assert done.exit_code == 0
    first, second = (tmp_path / name / "model.safetensors" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
