"""Random problems: the same instance as ours and as dense algebra."""

import torch

from chita.problem import DenseRows, GradientGram, LocalQuadratic
from tests.dense import DenseProblem


def random_problem(n, p, *, ridge, first_order, seed, dtype=torch.float64):
    """Rows of uneven scale, correlated, and weights of uneven size."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(p, p, generator=generator, dtype=torch.float64) / p**0.5
    a = torch.randn(n, p, generator=generator, dtype=torch.float64) @ (torch.eye(p).double() + mix)
    a *= torch.logspace(-1, 0.5, p, dtype=torch.float64)[torch.randperm(p, generator=generator)]
    w_bar = torch.randn(p, generator=generator, dtype=torch.float64)
    curvature = GradientGram(DenseRows(a.T.to(dtype).contiguous()))
    problem = LocalQuadratic(
        w_bar=w_bar.to(dtype),
        curvature=curvature,
        ridge=ridge,
        shift=curvature.constant(first_order),
    )
    return problem, DenseProblem(a, w_bar, ridge, first_order)
