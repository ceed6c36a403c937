"""What tests of pruning take: cheap solvers and quadratics always, the others in all tests."""

import pytest

import chita

EITHER = ["bso", pytest.param("chita", marks=pytest.mark.slow)]
"""A solver that is quick where any will do, and the default one; both choose λ, s and τ."""

GIVEN = {"quadratic": chita.Quadratic(ridge=0.02, first_order=1.0, step_size=1.0), "solver": "bso"}
"""A quick solver with nothing to choose."""

ASKED = [pytest.param(GIVEN, id="given"), pytest.param({}, id="default", marks=pytest.mark.slow)]
"""That, and what is done where nothing is asked for."""

NETWORKS = ["digits-mlp", "digits-cnn"]


def in_turn(values, others, each=1):
    """Pairs in which every value has so many of the others, all of them equally often."""
    others = list(others)
    return [(v, others[(i + j) % len(others)]) for i, v in enumerate(values) for j in range(each)]
