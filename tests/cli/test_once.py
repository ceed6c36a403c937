"""Budget, solver and data are made once on the way from the command line, and checked first."""

from unittest import mock

import pytest

import chita.cli.prune
import chita.cli.session
import chita.pruning.opening
from chita.constraints import Sparsity
from chita.solvers import Magnitude
from tests.program import chita as invoke


@pytest.mark.parametrize("training", [(), ("--training.epochs", 1, "--training.events", 1)])
def test_budget_solver_and_data_are_made_once(training):
    made = [
        mock.patch.object(home, name, wraps=getattr(home, name))
        for home, name in (
            (chita.cli.prune, "budget_of"),
            (chita.cli.prune, "make_solver"),
            (chita.cli.session, "load_network"),
            (chita.cli.session, "load_dataset"),
            (chita.pruning.opening, "as_examples"),
        )
    ]
    counts = [patch.start() for patch in made]
    budgets = mock.patch.object(Sparsity, "__post_init__", autospec=True).start()
    solvers = mock.patch.object(Magnitude, "__post_init__", autospec=True).start()
    try:
        done = invoke("prune", "--solver", "magnitude", "--sparsity", 0.5, *training)
    finally:
        mock.patch.stopall()
    assert done.exit_code == 0, done.output
    assert [count.call_count for count in counts] == [1] * len(counts)
    assert budgets.call_count == 1
    assert solvers.call_count <= 2  # one for its options, by which texts are read


def test_what_does_not_fit_is_refused_before_anything_is_measured():
    with mock.patch.object(chita.cli.session, "evaluate") as evaluate:
        for wrong in (
            ("--sparsity", 0.9999),
            ("--pattern", "2:5"),
            ("--sparsity", 0.5, "--samples", 9999),
            ("--sparsity", 0.5, "--ignore", "nothing"),
            ("--sparsity", 0.5, "--structure", "outputs", "--solver", "woodfisher"),
            ("--flops", 0.5, "--layerwise"),
        ):
            done = invoke("prune", "--model", "digits-cnn", *wrong)
            assert done.exit_code == 2, wrong
    evaluate.assert_not_called()
