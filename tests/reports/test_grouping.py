"""Runs are averaged where only their seeds differ."""

import pytest

from chita.reports.accuracy import make_table
from chita.reports.grouping import named_by_settings
from chita.reports.runs import Reported, reported
from tests.reports.records import line, record


def run(seed=0, value=90.0, run=(), **settings):
    own = line(seed=seed, value=value)
    own["settings"] = {**own["settings"], "seed": seed, **settings}
    own["run"] = {**own["run"], **dict(run)}
    return Reported(name="r", source=f"{seed} {value} {settings}", line=own)


def table_of(runs):
    found, left = named_by_settings(runs)
    return make_table([one.line for one in found]), left


def test_seeds_are_averaged():
    table, left = table_of([run(0, 90.0), run(1, 92.0)])
    assert [(c.mean, c.count) for c in table.cells.values()] == [(91.0, 2)]
    assert table.rows == ("chita",)
    assert not left


@pytest.mark.parametrize(
    ("setting", "values", "words"),
    [
        ("samples", (100, None), ("samples 100", "samples default")),
        ("layerwise", (True, None), ("layerwise True", "layerwise default")),
        ("blocks", ("4x1", "2x2"), ("blocks 4x1", "blocks 2x2")),
        ("training", ({"epochs": 8}, None), ("training 8 epochs", "training none")),
        ("options", ({"swaps": 3}, {}), ("swaps 3", None)),
        ("ridge", (0.1, "auto"), ("ridge 0.1", "ridge auto")),
    ],
)
def test_what_differs_beyond_seeds_is_told(setting, values, words):
    table, _ = table_of([run(0, v, **{setting: s}) for v, s in zip((90, 92), values, strict=True)])
    assert table.rows == tuple(f"chita, {word}" if word else "chita" for word in words)
    assert [cell.count for cell in table.cells.values()] == [1, 1]


def test_where_a_run_is_written_does_not_tell_it_apart():
    table, _ = table_of([run(0, out="a", force=True), run(1, out="b", options={"bound": True})])
    assert table.rows == ("chita",)


def test_two_budgets_and_other_kinds_are_told():
    both = [run(0, v, flops=0.3, sparsity=s, run={"flops": 0.3, "sparsity": s}.items())
            for v, s in ((90.0, 0.9), (50.0, 0.95))]  # fmt: skip
    table, _ = table_of(both)
    assert [cell.count for cell in table.cells.values()] == [1, 1]
    pattern = run(0, 85.0, pattern="2:4", sparsity=None,
                  run={"pattern": "2:4", "sparsity": None}.items())  # fmt: skip
    table, _ = table_of([run(0), pattern])
    assert set(table.rows) == {"chita", "chita, budget pattern 2:4"}


def test_of_the_same_settings_and_seed_the_last_counts():
    table, left = table_of([run(0, 90.0), run(0, 80.0)])
    assert [(c.mean, c.count) for c in table.cells.values()] == [(80.0, 1)]
    assert "the same settings and seed" in left[0]


def test_records_tell_of_training_and_of_what_was_done():
    trained = record(training={"epochs": [
        {"epoch": 1, "sparsity": 0.9, "loss": 0.1, "rate": 0.1, "metric": 90.0, "seconds": 1.0}
    ]})  # fmt: skip
    assert reported(trained).line["run"]["training"] == "1 epochs"
    assert "stages" not in reported(trained).line["run"]  # events are none
    assert reported(record()).line["run"]["stages"] == 2
    assert reported(record(command="refit")).line["run"]["solver"] == "refit"
