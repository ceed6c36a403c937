"""The conformance table: every solver × every curvature × every budget."""

from functools import cache

import pytest
import torch

from chita.constraints import (
    Blocks,
    ByOutliers,
    FixedMasks,
    Flops,
    Megabytes,
    NofM,
    Nonzeros,
    PerLayer,
    PerOutput,
    Quotas,
    Searched,
    Sparsity,
    Within,
)
from chita.layout import Axes, Layout, Operations
from chita.problem import GradientGram, LocalQuadratic, NoCurvature
from chita.solvers import CD, IHT, SOLVERS
from chita.solvers.baselines import ActiveSet
from tests.problems import block_problem, layer_problem, random_problem

LAYOUT = Layout(
    names=("a", "b", "c"),
    shapes=((10, 12), (3, 3), (4, 3, 3, 2)),
    axes=(Axes(), Axes(), Axes()),
    operations=Operations(each=(1, 3, 16), fixed=7),
)
N, P = 30, LAYOUT.size


def gradient_gram(dtype, n=N):
    """Fewer kept weights than rows, or more, depends on n; ill-scaled, with a first-order term."""

    def make():
        problem, _ = random_problem(n, P, ridge=0.05, first_order=0.5, seed=11, dtype=dtype)
        return problem

    return make


def block_gram(dtype, n):
    """Blocks within tensors and across them, one of them of a single weight."""

    def make():
        problem, _ = block_problem(
            n, P, ridge=0.05, first_order=0.5, seed=11, dtype=dtype, cuts=(50, 51, 120, 160)
        )
        return problem

    return make


def no_curvature():
    w_bar = torch.randn(P, generator=torch.Generator().manual_seed(2))
    return LocalQuadratic(
        w_bar=w_bar, curvature=NoCurvature(P), ridge=0.1, shift=torch.zeros(0).double()
    )


def input_gram(dtype, shape, n=100):
    """A layer of (groups, outputs, d), of p weights in all."""

    def make():
        return layer_problem(n, shape, ridge=0.05, seed=12, dtype=dtype)[0]

    return make


CURVATURES = {
    "GradientGram, float64": gradient_gram(torch.float64),
    "GradientGram, float32": gradient_gram(torch.float32),
    "GradientGram, more rows than weights kept": gradient_gram(torch.float64, n=150),
    "BlockGram, float32, few rows": block_gram(torch.float32, 10),
    "BlockGram, float64": block_gram(torch.float64, 60),
    "NoCurvature": no_curvature,
    "InputGram, float64": input_gram(torch.float64, (1, 3, P // 3)),
    "InputGram, float32": input_gram(torch.float32, (1, 3, P // 3)),
    "InputGram, groups, few inputs": input_gram(torch.float64, (3, 1, P // 3), n=20),
}


def fixed_masks():
    generator = torch.Generator().manual_seed(3)
    return {
        name: torch.rand(shape, generator=generator) < 0.3
        for name, shape in zip(LAYOUT.names, LAYOUT.shapes, strict=True)
    }


class Narrowed(Nonzeros):
    """A number of weights among two thirds of them."""

    def bind(self, layout):
        mask = torch.rand(layout.size, generator=torch.Generator().manual_seed(7)) < 0.67
        return Within(constraint=super().bind(layout), mask=mask)


BUDGETS = {
    "Sparsity": Sparsity(sparsity=0.7, min_keep=0),
    "Sparsity, floors": Sparsity(sparsity=0.8, min_keep=8),
    "Nonzeros": Nonzeros(nnz=1, min_keep=0),
    "Nonzeros, all": Nonzeros(nnz=P),
    "FixedMasks": FixedMasks(masks=fixed_masks()),
    "Within": Narrowed(nnz=40, min_keep=3),
    "PerLayer": PerLayer(sparsity=0.7, distribution="erk"),
    "Quotas": Quotas(levels={"*": 0.8, "b": 0.5}),
    "PerOutput": PerOutput(sparsity=0.6),
    "ByOutliers": ByOutliers(sparsity=0.7, shares={"a": 0.01, "b": 0.0, "c": 0.04}),
    "NofM": NofM(n=1, m=3),
    "AtLeastNofM": NofM(n=1, m=3).on_the_way(0.5, LAYOUT),
    "Blocks": Blocks(rows=1, columns=3, sparsity=0.7),
    "Flops": Flops(share=0.4),
    "Flops, weights": Flops(share=0.4, weights=Sparsity(sparsity=0.7)),
    "Megabytes": Megabytes(megabytes=0.0003),
    "Searched": Searched(total=Sparsity(sparsity=0.6), levels={"*": [(0.5, 0.2), (0.8, 0.3)]}),
    "Searched, Flops": Searched(
        total=Flops(share=0.4), levels={"a": [(0.75, 0.1)], "b": [(0.7, 0.1)], "c": [(0.6, 0.1)]}
    ),
}

BY_GRADIENTS = [name for name, kind in SOLVERS.items() if kind.takes(GradientGram)]
"""Methods that prune all weights together, by rows or by nothing."""

QUICK = {
    **{name: kind() for name, kind in SOLVERS.items()},
    "iht": IHT(max_iterations=40),
    "active-set": ActiveSet(solver=IHT(max_iterations=40), max_rounds=5),
    "cd": CD(max_cycles=20),
}
"""Every solver, with less patience where a projection takes long."""


SEARCHING = {"active-set", "active-set of bso", "alps", "cbs", "cd", "iht", "local-search"}


def slow_if(slow):
    """The marks of a case."""
    return (pytest.mark.slow,) if slow else ()


@cache
def curvature_of(name):
    """One curvature of the table, for its type."""
    return CURVATURES[name]().curvature


@cache
def constraint_of(name):
    """The constraint of one budget of the table."""
    return BUDGETS[name].bind(LAYOUT)


def accepts(solver, curvature, budget):
    """Whether a solver solves such a problem, and does not refuse it."""
    given = curvature_of(curvature)
    blind = isinstance(given, NoCurvature)
    fits = not solver.curvatures or (not blind and isinstance(given, solver.curvatures))
    return fits and isinstance(constraint_of(budget), solver.constraints)


def fast_budgets(name):
    """One budget for each curvature, in turn, that a solver accepts if it accepts any with it.

    Under FLOPs those that search take long: these are for all budgets only.
    """
    place = list(SOLVERS).index(name)
    quick = [b for b in BUDGETS if not ("Flops" in b and name in SEARCHING)]
    cover = {}
    for turn, curvature in enumerate(CURVATURES):
        solved = [b for b in quick if accepts(QUICK[name], curvature, b)] or quick
        cover[curvature] = solved[(17 * place + 16 * turn) % len(solved)]
    return cover
