"""Random problems: the same instance as ours and as dense algebra."""

import torch

from chita.problem import Curvature, DenseRows, GradientGram, InputGram, LocalQuadratic
from tests.dense import DenseProblem


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
    dense = DenseProblem(torch.zeros(1, p), problem.w_bar, ridge, 0.0)
    dense.hessian = dense.hessian + curvature.block(torch.arange(p))
    return dense


def _uneven(n, p, generator):
    mix = torch.randn(p, p, generator=generator, dtype=torch.float64) / p**0.5
    a = torch.randn(n, p, generator=generator, dtype=torch.float64) @ (torch.eye(p).double() + mix)
    return (
        a * torch.logspace(-1, 0.5, p, dtype=torch.float64)[torch.randperm(p, generator=generator)]
    )
