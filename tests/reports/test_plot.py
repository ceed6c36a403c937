"""Plots: every mark has its place, and good results stand apart."""

import pytest

from chita.reports.accuracy import as_markdown, make_table
from chita.reports.comparison_charts import chart_of
from chita.reports.picture import write_picture

figure = pytest.importorskip("matplotlib.figure")


def lines(measure, values, metric="top-1 accuracy, per cent"):
    """A run for each value, at one sparsity after another."""
    return [
        {
            "run": {"solver": "m", measure: budget},
            "settings": {},
            "pruned_metric": value,
            "metric": metric,
            "seconds": {"solve": 1.0},
            "sparsity": 0.5,
        }
        for budget, value in values
    ]


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draw runs and return the axes, with the places of marks on the picture."""
    kept = []
    save = figure.Figure.savefig

    def saved(self, *args, **kwargs):
        save(self, *args, **kwargs)
        kept.append(self.axes[0])

    monkeypatch.setattr(figure.Figure, "savefig", saved)

    def draw(found, level=None):
        dense = None if level is None else (level, "dense")
        write_picture([chart_of(make_table(found), dense)], tmp_path / "p.png")
        (axes,) = kept
        (line, *_) = axes.lines
        return axes, axes.transData.transform(line.get_xydata())

    return draw


def test_what_is_missing_and_what_is_kept_have_logarithmic_scales(drawn):
    axes, places = drawn(lines("sparsity", [(0.5, 98.0), (0.75, 96.0), (0.875, 92.0)]), 99.0)
    (x1, y1), (x2, y2), (x3, y3) = places
    assert x2 - x1 == pytest.approx(x3 - x2)  # half of what is kept, each time
    assert y1 - y2 == pytest.approx(y2 - y3)  # twice of what is missing, each time
    assert x1 < x2
    assert y1 > y2
    assert all(axes.bbox.contains(*place) for place in places)
    axes.get_figure(root=True).draw_without_rendering()
    for axis, known in ((axes.xaxis, {"0.5", "0.75", "0.875"}), (axes.yaxis, {"99", "98", "95"})):
        assert known <= {label.get_text() for label in axis.get_ticklabels()}


@pytest.mark.parametrize("values", [(100.0, 0.0), (100.0, 100.0), (0.0, 0.0), (99.99, 3.0)])
def test_all_measures_up_to_100_are_on_the_picture(drawn, values):
    axes, places = drawn(lines("sparsity", list(zip((0.0, 0.98), values, strict=True))), values[0])
    assert all(axes.bbox.padded(1).contains(*place) for place in places)


def test_other_measures_and_budgets_have_plain_scales(drawn):
    axes, places = drawn(lines("nnz", [(100, 3.0), (200, 2.0), (300, 1.0)], "mean squared error"))
    assert axes.get_xscale() == axes.get_yscale() == "linear"
    assert places[0][1] - places[1][1] == pytest.approx(places[1][1] - places[2][1])


def test_perplexity_has_a_logarithmic_scale_and_patterns_no_place(drawn):
    runs = lines("sparsity", [(0.5, 10.0), (0.75, 100.0), (0.875, 1000.0)], metric="perplexity")
    _, places = drawn([*runs, *lines("pattern", [("2:4", 40.0)], metric="perplexity")])
    (_, y1), (_, y2), (_, y3) = places
    assert y2 - y1 == pytest.approx(y3 - y2)


def test_fractions_and_neighbours_are_told_as_they_need():
    runs = lines("sparsity", [(0.5, 0.98765), (0.75, 0.5)], metric="mean cosine")
    told = as_markdown(make_table([{**run, "neighbours": 90.0 + i} for i, run in enumerate(runs)]))
    assert "| m | 0.9877 | 0.5 |" in told
    assert "| m | 90.0 | 91.0 |" in told
    assert "neighbour" not in as_markdown(make_table([*runs, {**runs[0], "neighbours": 90.0}]))
