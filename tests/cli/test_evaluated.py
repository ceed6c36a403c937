"""The samples that a command measures a network on: how many, which, and what is told of them."""

import json
from pathlib import Path
from unittest import mock

import pytest
import torch

import chita
import chita.cli.session
from chita.cli.grid import key_of
from chita.cli.requests import PruneRequest
from chita.cli.sweep import _dense
from chita.data.digits import digits
from chita.reports.page import make_report, page_of
from chita.reports.runs import read_runs
from chita.settings import request_of, settings_of
from tests.program import chita as invoke

PRUNE = ("prune", "--solver", "magnitude", "--sparsity", 0.9)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def printed(*arguments):
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_dense_and_pruned_are_measured_on_the_same_part():
    done = invoke(*PRUNE, "--evaluate", 30, "--seed", 4, "--out", "run")
    assert "dense, " in done.stdout
    assert "pruned on 30 of 500 samples" in " ".join(done.stdout.split())
    for network in ("dense", "pruned"):
        assert f"evaluate {network}: 30 of 30 samples" in done.stderr
    record = json.loads(Path("run/record.json").read_text())
    assert (record["evaluated"], record["evaluated_of"]) == (30, 500)
    same = ("--evaluate", 30, "--seed", 4)
    dense, pruned = printed("evaluate", *same), printed("evaluate", *same, "--weights", "run")
    assert (dense["value"], pruned["value"]) == (record["dense_metric"], record["pruned_metric"])
    assert (pruned["evaluated"], pruned["evaluated_of"]) == (30, 500)
    assert "on 30 of 500 samples;" in invoke("evaluate", *same).stdout
    others = {printed("evaluate", "--evaluate", 30, "--seed", s)["value"] for s in range(4)}
    assert len(others) > 1
    page = page_of(make_report(read_runs([Path("run")])))
    assert "per cent on 30 of 500 samples" in page


def test_only_what_is_drawn_runs():
    model, seen = chita.load_model("digits-mlp"), []
    model.register_forward_hook(lambda _m, inputs, _out: seen.append(inputs[0].clone()))
    with mock.patch.object(chita.cli.session, "load_network", return_value=(model, ())):
        printed("evaluate", "--evaluate", 40)
    index = torch.randperm(500, generator=torch.Generator().manual_seed(0))[:40].sort().values
    assert torch.equal(seen[-1], digits()[1].take(index).batch[0])
    assert torch.equal(seen[0], seen[-1][:1])  # shows what one takes
    assert len(seen) == 2


def test_a_few_by_default_and_all_where_that_is_asked_for():
    many = [digits()[1].batch] * 5, None
    data = (digits()[0], list(many[0]))
    with mock.patch.object(chita.cli.session, "load_dataset", return_value=data):
        usual, whole = printed(*PRUNE), printed(*PRUNE, "--evaluate", "all")
    assert (usual["evaluated"], usual["evaluated_of"]) == (2000, 2500)
    assert (whole["evaluated"], whole["evaluated_of"]) == (2500, 2500)
    assert whole["dense_metric"] == printed("evaluate")["value"] != usual["dense_metric"]


def test_nothing_is_measured_where_that_is_asked_for():
    with mock.patch.object(chita.cli.session, "evaluate") as evaluate:
        done = invoke(*PRUNE, "--evaluate", 0, "--out", "run")
        assert "nothing was measured" in invoke("evaluate", "--evaluate", 0).stdout
    assert done.exit_code == 0, done.output
    assert "nothing was measured" in done.stdout
    evaluate.assert_not_called()
    record = json.loads(Path("run/record.json").read_text())
    names = ("metric", "dense_metric", "pruned_metric", "evaluated", "evaluated_of")
    assert {record[name] for name in names} == {None}
    assert "evaluate" not in record["seconds"]


def test_masks_are_measured_on_a_part_too():
    invoke(*PRUNE, "--evaluate", 0, "--out", "run")
    fast = ("--samples", 40, "--ridge", 0.1, "--first-order", 0, "--step-size", 1)
    for command in (("apply",), ("refit", *fast, "--structure", "full")):
        found = printed(*command, "--mask", "run", "--evaluate", 20, "--seed", 2)
        assert (found["evaluated"], found["evaluated_of"]) == (20, 500)


def test_the_plan_counts_it():
    some, none = (printed("plan", "--sparsity", 0.9, "--evaluate", n) for n in (50, 0))
    assert some["evaluate_seconds"] > 0 == none["evaluate_seconds"]
    assert "evaluation about" in invoke("plan", "--sparsity", 0.9).stdout


def test_a_sweep_knows_on_what_dense_was_measured():
    def line(**settings):
        known = settings_of(request_of(PruneRequest, {"sparsity": 0.5, **settings}))
        return {"settings": known, "metric": "perplexity", "dense_metric": 3.0}

    def run(**settings):
        return mock.Mock(request=request_of(PruneRequest, {"sparsity": 0.9, **settings}))

    old = line(seed=7)
    del old["settings"]["evaluate"]
    assert key_of(old["settings"]) == key_of({**old["settings"], "evaluate": "all"})
    assert _dense(run(evaluate="all"), {"": old}).value == 3.0
    assert _dense(run(seed=7), {"": old}) is None
    assert _dense(run(seed=7), {"": line(seed=7)}).value == 3.0
    assert _dense(run(seed=8), {"": line(seed=7)}) is None
