"""Random problems: the same instance as ours and as dense algebra."""

from itertools import pairwise

import torch

from chita.collect.store import RowStore
from chita.layout import Axes, Layout
from chita.problem import (
    BlockGram,
    Curvature,
    DenseRows,
    GradientGram,
    InputGram,
    LocalQuadratic,
)
from tests.dense import DenseProblem

INSTANCES = [
    (n, p, k, first_order, ridge, seed)
    for n, p, k in [(4, 10, 3), (20, 12, 5), (6, 12, 11), (3, 8, 8), (5, 9, 1)]
    for first_order, ridge in [(0.0, 0.1), (1.0, 0.1), (1.0, 1e-3), (0.0, 2.0)]
    for seed in range(2)
]
"""Small problems: (n, p, k, first_order, ridge, seed)."""


def stored_as(a, dtype, segments):
    """Rows A (n, p) as they are collected, each segment as a tensor, in a narrower type."""
    sizes = [segment.stop - segment.start for segment in segments]
    names, axes = tuple(map(str, range(len(sizes)))), (Axes(),) * len(sizes)
    layout = Layout(names=names, shapes=tuple((size,) for size in sizes), axes=axes)
    store = RowStore(layout, len(a), torch.float32, torch.device("cpu"), {}, dtype)
    for name, segment in layout:
        store.write(name, 0, a[:, segment])
    return store.rows()


def random_problem(n, p, *, ridge, first_order, seed, dtype=torch.float64):
    """Rows of uneven scale, correlated, and weights of uneven size."""
    generator = torch.Generator().manual_seed(seed)
    a = _uneven(n, p, generator)
    w_bar = torch.randn(p, generator=generator, dtype=torch.float64)
    curvature = GradientGram(DenseRows(a.T.to(dtype).contiguous()))
    problem = LocalQuadratic(
        w_bar=w_bar.to(dtype),
        curvature=curvature,
        ridge=ridge,
        shift=curvature.constant(first_order),
    )
    return problem, DenseProblem(a, w_bar, ridge, first_order)


def block_problem(n, p, *, ridge, first_order, seed, dtype=torch.float64, cuts=(4,)):
    """The rows of `random_problem`, of which blocks that end at `cuts` and at p are told apart."""
    generator = torch.Generator().manual_seed(seed)
    a = _uneven(n, p, generator)
    w_bar = torch.randn(p, generator=generator, dtype=torch.float64)
    blocks = [slice(start, stop) for start, stop in pairwise((0, *cuts, p))]
    curvature = BlockGram(DenseRows(a.T.to(dtype).contiguous()), blocks)
    problem = LocalQuadratic(
        w_bar=w_bar.to(dtype),
        curvature=curvature,
        ridge=ridge,
        shift=curvature.constant(first_order),
    )
    dense = DenseProblem(a, w_bar, ridge, first_order)
    for one in blocks:
        for other in blocks:
            if one != other:
                dense.hessian[one, other] = 0
    return problem, dense


def layer_problem(n, shape, *, ridge, seed, dtype=torch.float64):
    """A layer of shape (groups, outputs, d) that saw n inputs; fewer than d leave G singular."""
    groups, outputs, d = shape
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.stack([_uneven(n, d, generator) for _ in range(groups)])
    w_bar = torch.randn(groups * outputs * d, generator=generator, dtype=torch.float64)
    curvature = InputGram(inputs.mT @ inputs / n, outputs, dtype=dtype)
    problem = LocalQuadratic(
        w_bar=w_bar.to(dtype), curvature=curvature, ridge=ridge, shift=curvature.constant(0.0)
    )
    # The rows of all outputs below each other, each zero but for the inputs of its own.
    each = [torch.block_diag(*[x] * outputs) for x in inputs]
    rows = torch.block_diag(*each) * (groups * outputs) ** 0.5
    return problem, DenseProblem(rows, w_bar, ridge, 0.0)


def problem_for(solver, n, p, *, ridge, first_order, seed, dtype=torch.float64):
    """A problem of p weights that a solver accepts: of gradients, or else of a layer."""
    kinds = solver.curvatures
    if not kinds or any(issubclass(GradientGram, kind) for kind in kinds):
        return random_problem(n, p, ridge=ridge, first_order=first_order, seed=seed, dtype=dtype)
    outputs = next(k for k in (2, 3, 1) if p % k == 0)
    return layer_problem(n, (1, outputs, p // outputs), ridge=ridge, seed=seed, dtype=dtype)


def rounded(problem, ridge, first_order):
    """Dense algebra of a problem as it is, its rows and weights in the type they have."""
    curvature: Curvature = problem.curvature
    p = curvature.size
    if isinstance(curvature, GradientGram):
        rows = torch.stack([curvature.image(column) for column in torch.eye(p)], 1)
        return DenseProblem(rows, problem.w_bar, ridge, first_order)
    rows = torch.zeros(1, p)
    if isinstance(curvature, BlockGram):  # for the gradient
        rows = curvature._rows.gather(torch.arange(p)).T
    dense = DenseProblem(rows, problem.w_bar, ridge, first_order)
    dense.hessian = ridge * torch.eye(p, dtype=torch.float64)
    dense.hessian = dense.hessian + curvature.block(torch.arange(p))
    return dense


def _uneven(n, p, generator):
    mix = torch.randn(p, p, generator=generator, dtype=torch.float64) / p**0.5
    a = torch.randn(n, p, generator=generator, dtype=torch.float64) @ (torch.eye(p).double() + mix)
    return (
        a * torch.logspace(-1, 0.5, p, dtype=torch.float64)[torch.randperm(p, generator=generator)]
    )
