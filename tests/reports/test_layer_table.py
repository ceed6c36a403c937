import dataclasses
import io
from dataclasses import asdict

import pytest
from rich.console import Console
from torch import nn

import chita
from chita.records import LayerRecord, SolvedRecord
from chita.reports.layer_table import layer_table, worst_layers
from chita.reports.terminal import show_plan, show_run
from tests.reports import records

BLOCKS = 30


def layer(block, kind, weights, kept, error=None):
    solved = None if error is None else SolvedRecord(inputs=8, error=error)
    return LayerRecord(
        name=f"layers.{block}.{kind}.weight",
        shape=(weights // 10, 10),
        weights=weights,
        kept=kept,
        dead_outputs=1,
        solved=solved,
    )


def deep(error=None):
    """Thirty equal blocks of two layers, of which the first keep least, and err most."""
    layers = [
        layer(block, kind, weights, 10 + block, error and error / (1 + block))
        for block in range(BLOCKS)
        for kind, weights in (("q", 100), ("up", 200))
    ]
    return records.record(layers=tuple(layers), step_size=1.0)


def printed(show, *arguments, **options):
    console = Console(file=io.StringIO(), width=200)
    show(*arguments, console, **options)
    return console.file.getvalue()


def test_equal_blocks_are_one_line():
    _, rows = layer_table(deep(), every=False)
    kept = sum(10 + block for block in range(BLOCKS))
    assert rows == [
        ["layers.0-29.q.weight (30 layers)", "10x10", "3,000", str(kept), "61.00 to 90.00", "30"],
        ["layers.0-29.up.weight (30 layers)", "20x10", "6,000", str(kept), "80.50 to 95.00", "30"],
    ]


def test_every_layer_on_request():
    run = deep()
    _, rows = layer_table(run, every=True)
    assert [row[0] for row in rows] == [layer.name for layer in run.layers]
    assert worst_layers(run, every=True) == []
    assert printed(show_run, run, all_layers=True).count("q.weight") == BLOCKS


@pytest.mark.parametrize(
    ("error", "worst"),
    [
        (
            None,
            "most removed: "
            + ", ".join(f"layers.{i}.up.weight {95 - i / 2:.2f} %" for i in range(5)),
        ),
        (0.6, "largest error: layers.0.q.weight 60.000 %, layers.0.up.weight 60.000 %"),
    ],
)
def test_the_five_worst_layers_have_names(error, worst):
    (line,) = worst_layers(deep(error), every=False)
    assert line.startswith(worst)
    assert line.count("%") == 5
    assert line in printed(show_run, deep(error))


def test_no_worst_layers_where_every_layer_has_its_line():
    """Two of 41 have names and shapes that are alike, but one of these was left dense."""
    layers = [layer(0, f"k{'x' * at}", 100, 50, 0.1) for at in range(40)]
    dense = SolvedRecord(inputs=8, error=None, skipped="was not solved")
    layers += [layer(1, "k", 100, 100).model_copy(update={"solved": dense})]
    run = records.record(layers=tuple(layers), step_size=1.0)
    assert len(layer_table(run, every=False)[1]) == len(layers)
    assert worst_layers(run, every=False) == []


def test_few_layers_are_shown_as_they_are():
    run = records.record()
    assert [row[0] for row in layer_table(run, every=False)[1]] == ["a", "b"]
    assert worst_layers(run, every=False) == []


def test_a_plan_of_equal_blocks():
    """Weights and bytes of a line are those of all its layers."""
    network = nn.Sequential(*(nn.Linear(4, 4) for _ in range(BLOCKS)))
    found = chita.plan(network, solver="magnitude")
    short = printed(show_plan, "deep", asdict(found))
    assert "0-29.weight (30 layers)" in short
    assert f"{BLOCKS * 16} " in short
    whole = printed(show_plan, "deep", asdict(found), all_layers=True)
    assert whole.count("default: Linear") == BLOCKS
    few = dataclasses.replace(found, tensors=found.tensors[:4])
    assert printed(show_plan, "few", asdict(few)).count("default: Linear") == 2


def test_a_plan_beyond_memory_advises_layer_by_layer_where_that_can_be():
    small = {"free_bytes": 10}
    linear, bare = nn.Linear(8, 8), nn.RNN(8, 8)
    for network, solver, free, advised in (
        (linear, "chita", small, True),
        (linear, "chita", {"free_bytes": 10**18}, False),
        (linear, "alps", small, False),
        (linear, "magnitude", small, False),
        (bare, "chita", small, False),
    ):
        found = dataclasses.replace(chita.plan(network, solver=solver), **free)
        assert ("--solver alps" in printed(show_plan, "net", asdict(found))) == advised
