"""Curves over epochs show what records tell."""

import pytest
from matplotlib.axes import Axes

from chita.errors import InputError
from chita.reports.curves import curves, points_of
from chita.reports.picture import write_picture


def line(solver, seed, sparsity=0.9, shift=0.0):
    epochs = [
        {"epoch": 1, "pruned_metric": 60.0 + shift, "metric": 80.0 + shift},
        {"epoch": 2, "pruned_metric": None, "metric": 85.0 + shift},
    ]
    return {
        "run": {"solver": solver, "sparsity": sparsity, "seed": seed},
        "settings": {},
        "metric": "top-1 accuracy, per cent",
        "dense_metric": 90.0,
        "pruned_metric": 85.0 + shift,
        "epochs": epochs,
    }


def test_points_fall_at_an_event_and_rise_with_an_epoch():
    assert points_of(line("chita", 0)) == [(0, 90.0), (0, 60.0), (1, 80.0), (2, 85.0)]


def test_means_and_panels_are_drawn(tmp_path, monkeypatch):
    drawn = []
    errorbar = Axes.errorbar

    def note(self, x, y, **words):
        drawn.append((words["label"], list(x), list(y)))
        return errorbar(self, x, y, **words)

    monkeypatch.setattr(Axes, "errorbar", note)
    lines = [line("chita", 0), line("chita", 1, shift=2.0), line("magnitude", 0)]
    lines += [line("chita", 0, sparsity=0.5), {"run": {"solver": "failed"}, "error": "no"}]
    write_picture(curves(lines), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
    assert [label for label, _, _ in drawn] == ["chita", "chita", "magnitude"]  # 0.5 comes first
    assert drawn[1][2] == [90.0, 61.0, 81.0, 86.0]


def test_runs_of_other_epochs_have_lines_of_their_own():
    short = line("chita", 1)
    short["epochs"] = short["epochs"][:1]
    (chart,) = curves([line("chita", 0), short])
    assert [(own.name, len(own.x)) for own in chart.series] == [
        ("chita, 2 epochs", 4),
        ("chita, 1 epochs", 3),
    ]


def test_what_was_not_measured_has_no_point():
    run = {**line("chita", 0), "dense_metric": None}
    run["epochs"][0] = {**run["epochs"][0], "pruned_metric": None, "metric": None}
    run["epochs"].append({"epoch": 3, "pruned_metric": None, "metric": 86.0})
    (chart,) = curves([run])
    assert chart.level is None
    assert chart.series[0].x == (2.0, 3.0)


def test_runs_without_epochs_are_refused():
    with pytest.raises(InputError, match="no epochs to show"):
        curves([{**line("chita", 0), "epochs": None}])
