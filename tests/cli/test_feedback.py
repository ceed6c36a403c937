"""Output of commands beside their results: nothing when quiet, and JSON for programs."""

import json
import warnings
from collections import Counter
from concurrent.futures import Future
from pathlib import Path

import pytest

import chita.cli.demo
import chita.cli.prune
import chita.workers
from chita.cli.feedback import Feedback
from chita.errors import InputError
from chita.progress import track
from tests.cli.refusals import cause, write_masks
from tests.program import chita as invoke

PRUNE = ("prune", "--sparsity", "0.9", "--solver", "magnitude")
JSON = ("--log-format", "json")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def told(*arguments, code=0):
    done = invoke(*arguments)
    assert done.exit_code == code, done.output
    return done


def events(done):
    """All of standard error, which holds nothing but objects, one a line."""
    return [json.loads(line) for line in done.stderr.splitlines()]


def without_times(text):
    found = json.loads(text)
    return {**found, "seconds": None, "peak_rss_mb": None, "stages": None}


def test_quiet_leaves_results_alone():
    plain, quiet = told(*PRUNE, "--json"), told(*PRUNE, "--json", "--quiet", "--out", "run")
    for network in ("dense", "pruned"):
        assert f"evaluate {network}: 500 of 500 samples, " in plain.stderr
    assert quiet.stderr == ""
    assert without_times(quiet.stdout) == without_times(plain.stdout)
    assert "Written: " in told(*PRUNE, "--out", "other").stderr
    refused = told("prune", "--nnz", 5, "--out", "run", "--quiet", code=2)
    assert cause(refused.stderr) == refused.stderr.strip()


def test_everything_on_standard_error_is_json():
    ways = ("--stages", 2, "--samples", 60, "--ridge", 0.1, "--first-order", 1, "--step-size", 1)
    arguments = ("prune", "--sparsity", 0.9, *ways, "--structure", "full", "--out", "run")
    done = told(*arguments, "--ignore", "Linear", "--targets", "fc*", *JSON)
    assert "pruned by chita" in done.stdout
    found = events(done)
    stages = json.loads(Path("run/record.json").read_text())["stages"]
    values = [line for line in found if line["event"] == "values"]
    assert [(v["task"], v["objective"], v["validation_loss"]) for v in values] == [
        (f"stage {i} of 2", stage["objective"], stage["validation_loss"])
        for i, stage in enumerate(stages, 1)
    ]
    notices = [line["message"] for line in found if line["event"] == "notice"]
    assert any("fc1.weight is pruned: " in notice for notice in notices)
    assert notices[-1] == "Written: run"
    later = next(line for line in found if line.get("task") == "stage 2 of 2: solve")
    assert later["objective"] == stages[0]["objective"]
    assert set(later) >= {"done", "total", "unit", "seconds", "rate", "seconds_left"}
    ended = [line for line in found if line["event"] == "finish"]
    assert all(line["total"] in (None, line["done"]) and line["rate"] > 0 for line in ended)
    count = Counter(line["event"] for line in found)
    # Two evaluations, three tasks a stage, and what writes the folder.
    assert count["start"] == count["finish"] == 9


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*PRUNE, "--nnz", 5), "got --sparsity and --nnz"),
        ((*PRUNE, "--weights", "/nowhere"), "does not exist"),
        ((*PRUNE, "--colour"), "Unknown option: --colour"),
        ((*PRUNE, "--samples", "many"), "--samples is 'many'"),
        (("prun",), 'Did you mean "prune"'),
        (("evaluate", "--model", "mlpnet"), "--weights"),
        (("refit",), "--mask is missing"),
        (("apply",), "--mask is missing"),
        (("plan", "--nnz", 5, "--solver", "chitta"), "Did you mean chita"),
        (("sweep", "none.toml", "--out", "r.jsonl"), "cannot be read"),
        ((*PRUNE, "--tensorboard", "/dev/null/events"), "cannot be a folder of events"),
    ],
)
@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
def test_an_error_is_one_object_and_exit_code_2(arguments, said, quiet):
    arguments = (*arguments, *quiet) if arguments != ("prun",) else arguments
    for asked in (JSON, ("--log-format=json",)):
        done = told(*arguments, *asked, code=2)
        assert done.stdout == ""
        (line,) = events(done)
        assert line.keys() == {"event", "message"}
        assert line["event"] == "error"
        assert said in line["message"]
        plain = told(*arguments, code=2)
        assert " ".join(cause(plain.stderr).split()) == f"Error: {line['message']}"


def test_quiet_and_json_leave_errors_alone():
    assert told(*PRUNE, "--quiet", *JSON).stderr == ""
    (line,) = events(told(*PRUNE, "--device", "meta", "--quiet", *JSON, code=2))
    assert line["event"] == "error"


def test_a_format_that_is_none():
    said = told(*PRUNE, "--log-format", "xml", code=2).stderr
    assert "--log-format is 'xml'; give one of 'text', 'json'" in said


def test_interrupts_and_mistakes_of_ours_are_objects_too(monkeypatch):
    def raising(error):
        def fail(*_, **__):
            raise error

        monkeypatch.setattr(chita.cli.prune, "open_prune", fail)

    raising(KeyboardInterrupt())
    *_, last = events(told(*PRUNE, *JSON, code=130))
    assert last == {"event": "error", "message": "Interrupted; no result was written."}
    raising(ZeroDivisionError("by hand"))
    *_, last = events(told(*PRUNE, *JSON, code=1))
    assert last["event"] == "error"
    assert "Traceback" in last["message"]
    assert "ZeroDivisionError: by hand" in last["message"]
    with pytest.raises(ZeroDivisionError):
        invoke(*PRUNE)


def test_warnings_of_others_are_objects_too(capsys, monkeypatch):
    for quiet, count in ((False, 1), (True, 0)):
        with Feedback(quiet=quiet, json=True).heard():
            warnings.simplefilter("always")
            warnings.warn("something is [old]", stacklevel=1)
        lines = capsys.readouterr().err.splitlines()
        expected = {"event": "warning", "message": "something is [old]"}
        assert [json.loads(line) for line in lines] == [expected] * count

    def warning(*_, **__):
        warnings.simplefilter("always")
        warnings.warn("of the run", stacklevel=1)
        raise InputError("and an error")

    monkeypatch.setattr(chita.cli.prune, "open_prune", warning)
    *_, warned, error = events(told(*PRUNE, *JSON, code=2))
    assert warned == {"event": "warning", "message": "of the run"}
    assert error == {"event": "error", "message": "and an error"}


def test_commands_with_masks_data_and_no_settings(monkeypatch):
    write_masks(Path())
    monkeypatch.setattr(chita.cli.demo, "_SPARSITIES", (0.5,))
    monkeypatch.setattr(chita.cli.demo, "_WAYS", {"magnitude": {"solver": "magnitude"}})
    refit = ("--samples", 40, "--ridge", 0.1, "--first-order", 0, "--step-size", 1)
    for arguments, task in (
        (("refit", "--mask", "half.masks", *refit, "--structure", "full"), "solve"),
        (("apply", "--mask", "half.masks"), "evaluate pruned"),
        (("evaluate",), "evaluate"),
        (("demo",), "digits-mlp, magnitude"),
        (("plan", "--nnz", 900), None),
    ):
        assert told(*arguments, "--quiet").stderr == ""
        tasks = {line.get("task") for line in events(told(*arguments, *JSON))}
        assert tasks >= {task} - {None}


class AtOnce:
    """In place of processes: does what it is given."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, work, *arguments):
        future = Future()
        future.set_result(work(*arguments))
        return future


def test_a_sweep_is_told_run_by_run(monkeypatch):
    monkeypatch.setattr(chita.workers, "ProcessPoolExecutor", AtOnce)
    Path("g.toml").write_text(
        'sparsity = 0.9\nsolver = "bso"\nridge = 0.1\n[sweep]\nsamples = [60, 100000]\n'
    )
    arguments = ("sweep", "g.toml", "--out", "r.jsonl", "--jobs", 1)
    found = events(told(*arguments, *JSON, code=2))
    line, failed = map(json.loads, Path("r.jsonl").read_text().splitlines())
    (values,) = [event for event in found if event["event"] == "values"]
    assert values["task"] == "run 1 of 2: samples 60"
    assert values[line["metric"]] == line["pruned_metric"]
    assert values["run_seconds_left"] > 0
    (notice,) = [event["message"] for event in found if event["event"] == "notice"]
    assert notice == f"run 2 of 2: samples 100000: {failed['error']}"
    *_, ended, error = found
    assert (ended["event"], ended["task"], ended["done"]) == ("finish", "sweep", 2)
    assert error["event"] == "error"
    assert "1 of 2 runs failed" in error["message"]


def test_runs_of_a_sweep_share_the_threads_that_one_run_would_use(monkeypatch):
    begun = []

    def at_once(*arguments, initargs, **_):
        begun.append((*arguments, *initargs))
        return AtOnce()

    monkeypatch.setattr(chita.workers, "ProcessPoolExecutor", at_once)
    Path("g.toml").write_text('sparsity = 0.9\nsolver = "magnitude"\n[sweep]\nseed = [0, 1]\n')
    for given, jobs, expected in ((6, 2, 3), (1, 2, 1), (5, 1, 5)):  # OMP_NUM_THREADS=6, 1, 5
        monkeypatch.setattr("torch.get_num_threads", lambda given=given: given)
        told("sweep", "g.toml", "--out", f"{given}.jsonl", "--jobs", jobs)
        assert begun.pop() == (jobs, expected)


def test_one_place_decides_how_progress_is_shown(capsys):
    for quiet, as_json, lines in (
        (True, False, 0),
        (True, True, 0),
        (False, False, 1),
        (False, True, 2),
    ):
        with track(Feedback(quiet=quiet, json=as_json).progress(), "a", 2, "b") as told_:
            told_.advance(2)
        assert len(capsys.readouterr().err.splitlines()) == lines
