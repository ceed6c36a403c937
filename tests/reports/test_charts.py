"""Charts hold what records say, and are drawn alike on a page and in a file."""

import math
from dataclasses import replace

import pytest

from chita.records import LevelRecord
from chita.reports.accuracy import make_table
from chita.reports.chart import SCALES, Axis, Chart, Series
from chita.reports.interactive import figure_of
from chita.reports.of_many import comparison, front_of
from chita.reports.of_one import charts_of, heat_of
from chita.reports.picture import picture_of
from chita.reports.runs import Reported, reported
from tests.reports.records import line, record, stage

objects = pytest.importorskip("plotly.graph_objects")


def own(key, run=None):
    """A chart of a run, by its key."""
    return {chart.key: chart for chart in charts_of(run or reported(record()))}[key]


@pytest.mark.parametrize("name", SCALES)
def test_a_place_leads_back_to_its_value(name):
    for value in (0.01, 0.5, 0.9, 0.99):
        assert SCALES[name].value(SCALES[name].place(value)) == pytest.approx(value)


def test_layers_show_what_was_removed_and_what_the_model_says_it_costs():
    layers, costs = own("layers").series[0], own("costs").series[0]
    assert layers.x == costs.x == ("a", "b")
    assert layers.y == pytest.approx((80.0, 100 * 820 / 900))
    assert costs.y == pytest.approx((0.5, 1.0))  # summed over two stages


def test_predictions_stand_beside_the_truth():
    points, line = own("predicted").series
    assert points.x == (0.04, 0.4)
    assert points.y == pytest.approx((0.05, 0.5))
    assert line.x == line.y


def test_the_course_is_thinned_but_keeps_its_ends():
    trace = tuple(1 / (i + 1) for i in range(5000))
    long = record(stages=[stage(0.9, 0.1, 0.2, 0.4, trace=trace)])
    (series,) = own("objective", reported(long)).series
    assert 100 < len(series.x) <= 301
    assert (series.y[0], series.y[-1]) == (trace[0], trace[-1])
    assert series.x[-1] == 4999


def test_a_bound_is_drawn_where_it_tells_something():
    assert own("objective").level == (0.3, "no mask is lower (proven)")
    loose = reported(record(lower_bound=-50.0))
    assert own("objective", loose).level is None


def test_time_is_counted_once():
    series = own("seconds").series
    total = sum(sum(one.y) for one in series)
    assert total == pytest.approx(2 * (1 + 2) + 1)  # two stages and the evaluation, no total


def test_the_front_is_what_nothing_beats():
    values = {("a", 0.5): 95, ("a", 0.9): 80, ("b", 0.5): 90, ("b", 0.9): 92, ("c", 0.95): 85}
    lines = [line(m, value=v, sparsity=s) for (m, s), v in values.items()]
    table = make_table(lines)
    assert front_of(table) == [("a", "sparsity 0.5"), ("b", "sparsity 0.9"), ("c", "sparsity 0.95")]
    losses = [{**one, "metric": "perplexity"} for one in lines]  # where less is better
    assert front_of(make_table(losses)) == [("a", "sparsity 0.9"), ("c", "sparsity 0.95")]


def test_a_level_tells_its_value_wherever_it_lies():
    chart = comparison([
        Reported(name=m, source=m, line=line(m, sparsity=s)) for m in "ab" for s in (0.5, 0.9)
    ])[0]
    dense = figure_of(chart)["data"][-1]
    assert dense["y"][0] != 95.0
    assert [row[1] for row in dense["customdata"]] == [95.0, 95.0]


def test_per_cents_in_cells_are_told_to_a_tenth():
    runs = [reported(record(seed=s), name=f"r{s}") for s in (0, 1)]
    heat = comparison(runs)[-1]
    assert figure_of(heat)["data"][0]["text"] == [["80.0", "80.0"], ["91.1", "91.1"]]


def test_charts_show_no_more_than_can_be_read():
    layers = [
        {"name": f"l{i}", "shape": (1,), "weights": 9, "kept": i % 9, "dead_outputs": 0}
        for i in range(2000)
    ]
    shown = own("layers", reported(record(layers=layers))).shown
    assert (len(shown.series[0].x), shown.rows) == (200, 200)
    assert shown.note == "The first 200 of 2000 are shown."
    many = [Reported(name=str(i), source="", line=line(f"m{i}")) for i in range(100)]
    pareto = comparison(many)[0].shown
    assert len(pareto.series) == 40
    assert "The first 40 of 101 are shown." in pareto.note


def test_the_front_leaves_the_others_their_colours():
    many = [Reported(name=m, source="", line=line(m)) for m in "ab"]
    front, *others = figure_of(comparison(many)[0])["data"][:3]
    assert front["name"].startswith("front")
    plain = figure_of(comparison(many)[1])["data"]  # seconds, without a front
    colors = [own["marker"]["color"] for own in plain]
    assert [own["marker"]["color"] for own in others] == colors
    assert front["marker"]["color"] not in colors


def test_what_is_not_finite_is_no_point_of_a_figure():
    odd = Chart(
        key="k", title="", x=Axis(label="x"), y=Axis(label="y"),
        series=(Series(name="m", x=(0.0, 1.0), y=(math.inf, math.nan)),),
    )  # fmt: skip
    assert figure_of(odd)["data"][0]["y"] == [None, None]


def all_charts():
    runs = [reported(record(), name=f"r{i}") for i in range(3)]
    runs += [
        Reported(name="s", source="", line=line(m, seed, value=80.0 + seed, sparsity=s))
        for m in ("x", "y") for seed in (0, 1) for s in (0.5, 0.9)
    ]  # fmt: skip
    levels = [LevelRecord(tensor=t, sparsity=s, loss=s * 10.0) for t in "ab" for s in (0.5, 0.9)]
    return [*charts_of(runs[0]), *comparison(runs), heat_of(levels)]


@pytest.mark.parametrize("chart", all_charts(), ids=lambda chart: chart.key)
def test_each_chart_is_a_figure_of_plotly_and_a_picture(chart):
    figure = objects.Figure(figure_of(chart))  # raises on what Plotly does not know
    assert len(figure.data) >= 1
    for trace in figure_of(chart)["data"]:
        for letter in ("x", "y"):
            values = [v for v in trace[letter] if not isinstance(v, str)]
            assert all(map(math.isfinite, values))
    assert picture_of([chart], "png").startswith(b"\x89PNG")
    svg = picture_of([chart], "svg")
    assert b"<svg" in svg
    assert svg == picture_of([chart], "svg")  # the same bits


def test_what_plotly_shows_are_the_values_wherever_they_lie():
    chart = Chart(
        key="k", title="", x=Axis(label="sparsity", scale="kept"),
        y=Axis(label="accuracy", scale="missing"),
        series=(Series(name="m", x=(0.5, 0.9), y=(90.0, 80.0), spread=(1.0, 0.0)),),
    )  # fmt: skip
    (trace,) = figure_of(chart)["data"]
    assert trace["x"] == pytest.approx([math.log10(2), 1.0])
    assert [row[:2] for row in trace["customdata"]] == [[0.5, 90.0], [0.9, 80.0]]
    up, down = trace["error_y"]["array"][0], trace["error_y"]["arrayminus"][0]
    assert up == pytest.approx(-math.log10(9.5) + math.log10(10.5), rel=1e-5)
    assert down == pytest.approx(math.log10(11.5) - math.log10(10.5), rel=1e-5)
    plain = replace(chart, x=Axis(label="x"), y=Axis(label="y", scale="log"))
    (trace,) = figure_of(plain)["data"]
    assert trace["y"] == [90.0, 80.0]
    assert trace["error_y"]["array"] == [1.0, 0.0]
