"""Charts hold what records say, and are drawn in the same way on a page and in a file."""

import math
from xml.etree import ElementTree

import pytest

from chita.records import LevelRecord
from chita.reports.chart import Axis, Chart, Series
from chita.reports.comparison_charts import comparison
from chita.reports.picture import inline_svg, picture_of
from chita.reports.run_charts import charts_of, heat_of
from chita.reports.runs import Reported, reported
from tests.reports.records import line, record, stage

figure = pytest.importorskip("matplotlib.figure")


def own(key, run=None):
    """A chart of a run, by its key."""
    return {chart.key: chart for chart in charts_of(run or reported(record()))}[key]


def test_layers_show_what_was_removed_and_what_the_model_says_it_costs():
    head, rows = own("layers").numbers
    assert (head, rows) == (("", "per cent removed"), [("a", "80"), ("b", "91.11")])
    head, rows = own("costs").numbers
    assert rows == [("a", "0.5"), ("b", "1")]  # summed over two stages


def test_the_course_is_thinned_but_keeps_its_ends():
    trace = tuple(1 / (i + 1) for i in range(5000))
    long = record(stages=[stage(0.9, 0.1, 0.2, 0.4, trace=trace)])
    (series,) = own("objective", reported(long)).series
    assert 50 < len(series.x) <= 101
    assert (series.y[0], series.y[-1]) == (trace[0], trace[-1])
    assert series.x[-1] == 4999


def test_a_bound_is_drawn_where_it_tells_something():
    assert own("objective").level == (0.3, "no mask is lower (proven)")
    loose = reported(record(lower_bound=-50.0))
    assert own("objective", loose).level is None


def test_the_numbers_of_a_chart_are_its_points_and_its_level():
    runs = [
        Reported(name=m, source=m, line=line(m, seed, value=90.0 + seed, sparsity=s))
        for m in "ab" for seed in (0, 1) for s in (0.9, 0.5)
    ]  # fmt: skip
    head, rows = comparison(runs)[0].numbers
    assert head == ("", "share of the weights removed", "top-1 accuracy, per cent", "±")
    assert rows[-5:] == [
        ("a", "0.5", "90.5", "0.71"),
        ("a", "0.9", "90.5", "0.71"),
        ("b", "0.5", "90.5", "0.71"),
        ("b", "0.9", "90.5", "0.71"),
        ("dense", "", "95", ""),
    ]


def test_cells_have_four_digits():
    runs = [reported(record(seed=s), name=f"r{s}") for s in (0, 1)]
    head, rows = comparison(runs)[-1].numbers
    assert head == ("", "r0", "r1")
    assert rows == [("a", "80", "80"), ("b", "91.11", "91.11")]


def test_charts_show_no_more_than_can_be_read():
    layers = [
        {"name": f"l{i}", "shape": (1,), "weights": 9, "kept": i % 9, "dead_outputs": 0}
        for i in range(2000)
    ]
    shown = own("layers", reported(record(layers=layers))).shown
    assert shown.rows == 200
    assert shown.note == "The first 200 of 2000 are shown."
    many = [Reported(name=str(i), source="", line=line(f"m{i}")) for i in range(100)]
    measures = comparison(many)[0].shown
    assert len(measures.series) == 40
    assert "The first 40 of 100 are shown." in measures.note


@pytest.fixture
def drawn(monkeypatch):
    """Draw a chart and return its axes."""
    kept = []
    save = figure.Figure.savefig
    monkeypatch.setattr(
        figure.Figure, "savefig", lambda self, *a, **k: (save(self, *a, **k), kept.append(self))
    )

    def draw(chart):
        picture_of([chart], "png")
        return kept[-1].axes[0]

    return draw


def test_lines_of_the_same_colour_have_other_dashes(drawn):
    many = [Reported(name=str(i), source="", line=line(f"m{i}")) for i in range(20)]
    lines = [own.lines[0] for own in drawn(comparison(many)[1]).containers]
    assert len({(own.get_color(), own.get_linestyle()) for own in lines}) == 20


def all_charts():
    runs = [reported(record(), name=f"r{i}") for i in range(3)]
    runs += [
        Reported(name="s", source="", line=line(m, seed, value=80.0 + seed, sparsity=s))
        for m in ("x", "y") for seed in (0, 1) for s in (0.5, 0.9)
    ]  # fmt: skip
    levels = [LevelRecord(tensor=t, sparsity=s, loss=s * 10.0) for t in "ab" for s in (0.5, 0.9)]
    return [*charts_of(runs[0]), *comparison(runs), heat_of(levels)]


@pytest.mark.parametrize("chart", all_charts(), ids=lambda chart: chart.key)
def test_each_chart_is_a_picture_and_a_table(chart):
    head, rows = chart.numbers
    assert rows
    assert {len(row) for row in rows} == {len(head)}
    assert picture_of([chart], "png").startswith(b"\x89PNG")
    svg = picture_of([chart], "svg")
    assert b"<svg" in svg
    assert svg == picture_of([chart], "svg")  # the same bits


def test_what_is_not_finite_is_no_point_of_a_picture():
    odd = Chart(
        key="k", title="", x=Axis(label="x"), y=Axis(label="y"),
        series=(Series(name="m", x=(0.0, 1.0), y=(math.inf, math.nan)),),
    )  # fmt: skip
    assert b"<svg" in picture_of([odd], "svg")


def test_on_a_page_a_chart_has_the_colour_of_the_text_and_ids_of_its_own():
    def ids(chart):
        root = ElementTree.fromstring(inline_svg(chart))
        return [own.get("id") for own in root.iter() if own.get("id")]

    layers, stages = (own(key) for key in ("layers", "stages"))
    found = [*ids(layers), *ids(stages)]
    assert len(set(found)) == len(found)
    text = inline_svg(layers)
    assert text.startswith("<svg")
    assert "currentColor" in text
    assert layers.title not in text  # the page has it as a caption
    assert layers.y.label in text  # as text, not as curves
