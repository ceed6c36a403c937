"""Results, plans and sensitivities as a shell and a notebook show them."""

import re
import sys

import pytest

import chita
from chita.data.digits import digits

CALIBRATION, EVALUATION = digits()[0].first(300), digits()[1].first(200)
HOSTILE = "<img src=x onerror=alert(1)>"


def network():
    return chita.load_model("digits-mlp")


@pytest.fixture(scope="module")
def sensitivity():
    options = {"solver": "magnitude", "sparsities": [0.5, 0.9], "validation": 50}
    return chita.sensitivity(network(), CALIBRATION, **options)


def cells(shown):
    """HTML with the cells of its tables as plain as can be."""
    return re.sub(r"<td[^>]*>", "<td>", shown)


def test_a_result_is_one_line():
    asked = {"sparsity": 0.9, "solver": "magnitude"}
    plain = "DigitsMLP, prune by magnitude: sparsity 0.9, 1,702 of 17,024 weights kept"
    assert repr(chita.prune(network(), **asked)) == f"PruneResult({plain})"
    result = chita.prune(network(), evaluation=EVALUATION, **asked)
    dense, pruned = (chita.evaluate(model, EVALUATION).value for model in (network(), result.model))
    name = "top-1 accuracy, per cent"
    measured = f"{name}, dense: {dense:.2f}; {name}, pruned: {pruned:.2f}"
    assert repr(result) == f"PruneResult({plain}; {measured})"


def test_a_plan_is_one_line_and_a_table():
    found = chita.plan(
        network(), CALIBRATION, sparsity=0.9, ignore="fc1", fisher=chita.Fisher(samples=100)
    )
    told = repr(found)
    assert told.startswith("Plan(2 of 6 tensors, 883 of 8,832 weights kept; 100 gradients, ")
    assert "\n" not in told
    assert len(told) < 150
    shown = cells(found._repr_html_())
    assert shown.count("<tr>") == 7
    assert "<td>fc1.weight</td><td>128x64</td><td>8,192</td><td>no</td><td>ignore fc1</td>" in shown
    assert told[5:-1] in shown
    unknown = chita.plan(network())
    assert "6 tensors, 17,024 weights; " in repr(unknown)
    assert "more than " in repr(unknown)


def test_a_sensitivity_is_one_line_a_table_and_a_picture(sensitivity):
    told = f"cross_entropy, dense: {sensitivity.dense_loss:.4g}"
    told = f"DigitsMLP by magnitude: 3 tensors at sparsities 0.5, 0.9; {told}"
    assert repr(sensitivity) == f"Sensitivity({told})"
    shown = cells(sensitivity._repr_html_())
    assert shown.count("<svg") == 1
    last = sensitivity.levels[-1]
    table = shown[: shown.index("</table>")]
    assert last.tensor in table
    assert f"<td>{last.loss:.2g}</td>" in table
    assert "<td></td>" not in table
    unsolved = sensitivity.described(levels=sensitivity.levels[:-1])._repr_html_()
    assert "<td></td>" in cells(unsolved)


def test_names_are_escaped_and_no_picture_is_needed(sensitivity, monkeypatch):
    assert "<img" not in sensitivity.described(model=HOSTILE)._repr_html_()
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    shown = sensitivity._repr_html_()
    assert "<svg" not in shown
    assert "<table" in shown
