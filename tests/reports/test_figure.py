"""The figure for a paper: names, ticks, scales, and what it refuses."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

import chita
from chita.data.digits import digits

ROOT = Path(__file__).parents[2]
SWEEP = ROOT / "reproduce" / "mlpnet-1000.jsonl"
ROWS = ["chita", "magnitude", "chita, stages 20"]


def texts(figure):
    (axes,) = figure.subfigs[0].axes
    return {text.get_text(): text for text in axes.texts}


def test_few_lines_have_their_names_at_their_ends_and_none_over_another():
    figure = chita.plot(SWEEP, series=ROWS, width=3.3)
    figure.draw_without_rendering()
    named = texts(figure)
    assert set(named) == {*ROWS, "dense"}
    assert figure.get_figwidth() == 3.3
    boxes = sorted((text.get_window_extent() for text in named.values()), key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 for low, high in pairwise(boxes))
    inside = figure.get_window_extent()
    assert all(box.x1 <= inside.x1 for box in boxes)
    assert not figure.subfigs[0].legends


def test_values_are_means_of_the_lines_and_ticks_stand_where_runs_are():
    figure = chita.plot(SWEEP, series=["magnitude"], width=7)
    (axes,) = figure.subfigs[0].axes
    lines = [json.loads(line) for line in SWEEP.read_text().splitlines()]
    own = [line for line in lines if line["run"]["solver"] == "magnitude"]
    for removed in {line["run"]["sparsity"] for line in own}:
        values = [v["pruned_metric"] for v in own if v["run"]["sparsity"] == removed]
        mean = 100 - sum(values) / len(values)
        drawn = axes.containers[0].lines[0]
        at = [round(x, 6) for x in drawn.get_xdata()].index(round(1 - removed, 6))
        assert drawn.get_ydata()[at] == pytest.approx(mean)
    ticks = {round(1 - tick, 6) for tick in axes.xaxis.get_majorticklocs()}
    assert ticks == {line["run"]["sparsity"] for line in own}
    assert "log scale" in axes.get_ylabel()
    assert axes.get_title() == ""


def test_many_lines_have_a_legend_and_looks_of_their_own(tmp_path):
    figure = chita.plot(ROOT / "reproduce" / "peers-mlpnet.jsonl", width=7)
    (axes,) = figure.subfigs[0].axes
    looks = [(c.lines[0].get_color(), c.lines[0].get_linestyle()) for c in axes.containers]
    assert len(set(looks)) == len(looks) > 6
    assert figure.subfigs[0].legends
    figure.savefig(tmp_path / "figure.pdf")
    assert (tmp_path / "figure.pdf").read_bytes().startswith(b"%PDF")


def test_results_records_and_folders_are_drawn_alike(tmp_path):
    model, (_, evaluation) = chita.load_model("digits-mlp"), digits()
    results = [
        chita.prune(model, solver="magnitude", sparsity=s, evaluation=evaluation)
        for s in (0.5, 0.8)
    ]
    for number, result in enumerate(results):
        result.save(tmp_path / str(number))
    given = (results, [r.record for r in results], [tmp_path / "0", str(tmp_path / "1")])
    drawn = []
    for records in given:
        (axes,) = chita.plot(records).subfigs[0].axes
        drawn.append(axes.containers[0].lines[0].get_xydata().tolist())
    assert drawn[0] == drawn[1] == drawn[2]
    assert len(drawn[0]) == 2


def test_what_cannot_be_drawn_is_refused(tmp_path):
    with pytest.raises(chita.InputError, match=r"'chitta', which no line has\. Did you mean chita"):
        chita.plot(SWEEP, series=["chitta"])
    with pytest.raises(chita.InputError, match="`width` is 0; give inches"):
        chita.plot(SWEEP, width=0)
    with pytest.raises(chita.InputError, match="holds no run"):
        chita.plot(tmp_path / "absent.jsonl")
    with pytest.raises(chita.InputError, match="`records` holds a int"):
        chita.plot([3])
    unmeasured = chita.prune(chita.load_model("digits-mlp"), solver="magnitude", sparsity=0.5)
    with pytest.raises(chita.InputError, match="No run has a measure"):
        chita.plot(unmeasured)
