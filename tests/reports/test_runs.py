"""What is read, and what is named and left out."""

import json
import shutil
from pathlib import Path

import pytest

from chita.errors import InputError
from chita.reports.page import make_report
from chita.reports.runs import read_runs
from tests.reports.records import line, record, sensitivities, write_lines, write_record

BROKEN = {
    "not JSON": "{",
    "an array": "[1]",
    "a number": "3",
    "deep": "[" * 100_000,
    "a failure": json.dumps({"run": {}, "settings": {}, "error": "no such solver"}),
    "lacking": json.dumps({"run": {}, "settings": {}}),
    "settings": json.dumps({**line(), "settings": 3}),
    "a text for a number": json.dumps({**line(), "pruned_metric": "90"}),
    "true for a number": json.dumps({**line(), "sparsity": True}),
    "NaN": json.dumps({**line(), "sparsity": float("nan")}),
    "a gap": json.dumps({**line(), "gap": "x"}),
    "a measure without a name": json.dumps({**line(), "metric": None}),
    "a name that is a list": json.dumps({**line(), "metric": ["accuracy"]}),
    "a number beyond all": json.dumps({**line(), "nnz": 10**400}),
    "options": json.dumps({**line(), "run": {"solver": "iht", "options": "x"}}),
    "a budget": json.dumps({**line(), "run": {"solver": "iht", "sparsity": "x/../../y"}}),
    "a pattern": json.dumps({**line(), "run": {"solver": "iht", "pattern": "2 of 4"}}),
    "seconds": json.dumps({**line(), "seconds": {"solve": "fast"}}),
    "epochs": json.dumps({**line(), "epochs": [{"epoch": 1}]}),
    "bytes": b"\xff\xfe",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_named_and_the_others_are_shown(tmp_path, broken):
    path = tmp_path / "runs.jsonl"
    broken = broken if isinstance(broken, bytes) else broken.encode()
    one, two = (json.dumps(line(seed=seed)).encode() for seed in (0, 1))
    path.write_bytes(b"\n".join([one, broken, two]) + b"\n")
    reading = read_runs([path])
    assert len(reading.runs) == 2
    (skipped,) = reading.skipped
    assert skipped.startswith(f"{path}, line 2: ")
    assert make_report(reading).charts


def test_a_broken_record_is_named_and_the_others_are_shown(tmp_path):
    good, bad = write_record(tmp_path / "good"), write_record(tmp_path / "bad")
    (bad / "record.json").write_text('{"format": 1, "nnz": "many"}')
    reading = read_runs([good, bad])
    assert [run.name for run in reading.runs] == ["good"]
    assert "nnz" in reading.skipped[0] or "command" in reading.skipped[0]
    assert str(bad) in reading.skipped[0]


def test_a_record_says_as_much_as_its_file_whatever_names_it(tmp_path):
    folder = write_record(tmp_path / "run")
    by_folder = read_runs([folder]).runs[0]
    by_file = read_runs([folder / "record.json"]).runs[0]
    assert by_folder.record == by_file.record == record()
    assert by_folder.name == by_file.name == "run"


def test_a_file_of_something_else_is_named_once(tmp_path):
    other = tmp_path / "levels.csv"
    other.write_text("tensor,sparsity\na,0.5\nb,0.5\n")
    reading = read_runs([other, write_record(tmp_path / "run")])
    assert reading.skipped == (f"{other}: no results of a sweep; none of its 3 lines is JSON.",)


def test_what_was_not_finite_is_a_run_that_measured_nothing(tmp_path):
    path = write_lines(tmp_path / "r.jsonl", [line(value=float("inf"))])
    assert read_runs([path]).runs[0].line["pruned_metric"] is None


def test_the_same_run_counts_once(tmp_path):
    folder = write_record(tmp_path / "run")
    shutil.copytree(folder, tmp_path / "copy")
    report = make_report(read_runs([folder, tmp_path / "copy", folder / "record.json"]))
    assert len(report.runs) == 1
    assert len(report.skipped) == 2
    assert "the same settings and seed as" in report.skipped[0]


def test_runs_of_one_name_are_named_by_their_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [
        write_record(Path(name) / "run", record(seed=seed)) for seed, name in enumerate(("a", "b"))
    ]
    lines = write_lines(Path("r.jsonl"), [line(value=80.0), line(value=90.0)])
    assert [run.name for run in read_runs([*paths, lines]).runs] == [
        *("a/run", "b/run"),
        *(f"chita, sparsity 0.9, seed 0 (r.jsonl, line {at})" for at in (1, 2)),
    ]


def test_sensitivities_are_told_from_runs(tmp_path):
    table = write_record(tmp_path / "sens", sensitivities())
    reading = read_runs([table, write_record(tmp_path / "run")])
    assert reading.tables == (("sens", sensitivities()),)
    assert [run.name for run in reading.runs] == ["run"]
    (heat,) = make_report(reading).heats
    assert [(row.name, row.x, row.y) for row in heat.series] == [
        ("a", ("0.5", "0.9"), (0.5, 0.9)),
        ("b", ("0.5", "0.9"), (1.0, 1.8)),
    ]
    assert make_report(read_runs([table])).charts == [heat]


def test_nothing_to_read_is_refused(tmp_path):
    empty = tmp_path / "empty.jsonl"
    empty.write_text("")
    only = write_lines(tmp_path / "only.jsonl", [{"error": "x", "run": {}, "settings": {}}])
    for path, words in ((empty, "no run"), (only, "line 1"), (tmp_path / "none", "No such file")):
        with pytest.raises(InputError, match=words):
            read_runs([path])
    with pytest.raises(InputError, match="No such file"):
        read_runs([tmp_path])  # a folder without a record
