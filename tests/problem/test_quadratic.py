"""The quadratic against dense float64 algebra."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chita.errors import InputError, NumericalError
from chita.problem import DenseRows, GradientGram, LocalQuadratic, NoCurvature
from tests.problems import random_problem

# n above and below the support's size: both systems of the back-solve
CASES = [(4, 9), (30, 9), (9, 9), (1, 6)]
SETTINGS = [(0.0, 0.3), (1.0, 1e-3), (-0.5, 2.0)]
problems = pytest.mark.parametrize(
    ("n", "p", "first_order", "ridge"), [(n, p, s, lam) for n, p in CASES for s, lam in SETTINGS]
)


@problems
def test_value_and_gradient(n, p, first_order, ridge):
    ours, dense = random_problem(n, p, ridge=ridge, first_order=first_order, seed=n)
    for weights in (torch.randn(p).double(), torch.zeros(p).double(), ours.w_bar):
        assert ours.value(weights) == pytest.approx(dense.value(weights), rel=1e-10, abs=1e-12)
        assert torch.allclose(ours.gradient_at(weights), dense.gradient_at(weights))
    assert torch.allclose(ours.gradient, dense.gradient)
    residual = ours.residual(weights)
    assert ours.value_at(residual, weights) == pytest.approx(dense.value(weights), abs=1e-12)


@problems
def test_what_is_rounding_is_a_share_of_what_removing_all_costs(n, p, first_order, ridge):
    ours, dense = random_problem(n, p, ridge=ridge, first_order=first_order, seed=n)
    lost = dense.value(torch.zeros(p)) + 0.5 * first_order**2  # Q(w̄) = 0, and its fit is s²/2
    assert ours.rounding == pytest.approx(1e-12 * lost, rel=1e-9)


@problems
def test_restriction_is_the_same_function(n, p, first_order, ridge):
    ours, dense = random_problem(n, p, ridge=ridge, first_order=first_order, seed=n + 1)
    index = torch.tensor([0, 2, 3, 5])
    small = ours.restrict(index)
    for _ in range(3):
        inside = torch.randn(len(index)).double()
        weights = torch.zeros(p).double()
        weights[index] = inside
        assert small.value(inside) == pytest.approx(dense.value(weights), rel=1e-10, abs=1e-12)
        assert torch.allclose(small.gradient_at(inside), dense.gradient_at(weights)[index])
    twice = small.restrict(torch.tensor([1, 2]))
    weights = torch.zeros(p).double()
    weights[index[1:3]] = torch.tensor([0.5, -1.0]).double()
    assert twice.value(weights[index[1:3]]) == pytest.approx(dense.value(weights), abs=1e-12)


@problems
def test_minimum_on_a_support(n, p, first_order, ridge):
    ours, dense = random_problem(n, p, ridge=ridge, first_order=first_order, seed=n + 2)
    for support in ([0], [1, 4], [0, 2, 3, 5], list(range(p))):
        found = ours.minimise_on(torch.tensor(support))
        expected = dense.minimise_on(support)
        assert torch.allclose(found.weights, expected, rtol=1e-7, atol=1e-9)
        assert found.objective == pytest.approx(dense.value(expected), rel=1e-9, abs=1e-11)
        assert torch.allclose(found.residual, ours.residual(found.weights), atol=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 12), st.floats(1e-4, 1.0))
def test_a_factor_moved_from_a_support_nearby_gives_the_same_minimum(seed, n, ridge):
    p = 30
    ours, dense = random_problem(n, p, ridge=ridge, first_order=1.0, seed=seed)
    order = torch.randperm(p, generator=torch.Generator().manual_seed(seed))
    first = ours.minimise_on(order[:15].sort().values)
    second = order[2:17].sort().values
    moved = ours.minimise_on(second, near=first.factor)
    assert torch.allclose(moved.weights, dense.minimise_on(second), rtol=1e-6, atol=1e-8)
    again = ours.minimise_on(order[:15].sort().values, near=first.factor)
    assert torch.equal(again.weights, first.weights)  # the old factor is as it was


def test_one_factor_serves_many_ridges():
    for n in (4, 30):
        ours, _ = random_problem(n, 9, ridge=0.1, first_order=0.0, seed=3)
        support = torch.tensor([0, 1, 2, 3, 6])
        factor = ours.curvature.factor(support)
        residual = ours.residual(ours.w_bar[support], support)
        for ridge in (1e-3, 0.1, 5.0):
            _, dense = random_problem(n, 9, ridge=ridge, first_order=0.0, seed=3)
            step, remaining = factor.solve(residual, ridge)
            expected = dense.minimise_on(support.tolist())[support]
            assert torch.allclose(ours.w_bar[support] + step, expected)
            assert torch.allclose(remaining, residual + ours.curvature.image(step, support))


def test_without_ridge_the_solution_interpolates_or_the_error_says_so():
    ours, _ = random_problem(3, 9, ridge=0.0, first_order=1.0, seed=5)
    found = ours.minimise_on(torch.tensor([0, 1, 2, 3, 4]))
    assert found.residual.abs().max() < 1e-9
    twins = DenseRows(torch.randn(6, 1).double().expand(6, 2).contiguous())
    curvature = GradientGram(twins)
    problem = LocalQuadratic(
        w_bar=torch.ones(6).double(), curvature=curvature, ridge=0.0, shift=curvature.constant(0.0)
    )
    with pytest.raises(NumericalError, match="Raise `ridge`"):
        problem.minimise_on(torch.tensor([0, 1, 2, 3]))


def test_curvature_is_the_dense_hessian():
    ours, dense = random_problem(6, 8, ridge=0.0, first_order=0.0, seed=1)
    h = ours.curvature
    v = torch.randn(8).double()
    assert torch.allclose(h.pullback(h.image(v)), dense.hessian @ v)
    assert h.inner(h.image(v), h.image(v)) == pytest.approx(float(v @ dense.hessian @ v))
    assert torch.allclose(h.diagonal(), dense.hessian.diagonal())


@pytest.mark.parametrize("bad", [{"ridge": -1.0}, {"ridge": float("nan")}, {"ridge": float("inf")}])
def test_a_ridge_that_makes_no_sense_is_refused(bad):
    fields = {"w_bar": torch.ones(2), "curvature": NoCurvature(2), "shift": torch.zeros(0)}
    with pytest.raises(InputError, match="ridge"):
        LocalQuadratic(**fields, **bad)


def test_weights_must_be_finite_and_as_many_as_the_curvature_has():
    fields = {"curvature": NoCurvature(2), "shift": torch.zeros(0), "ridge": 0.0}
    with pytest.raises(InputError, match="NaN"):
        LocalQuadratic(w_bar=torch.tensor([1.0, float("nan")]), **fields)
    with pytest.raises(InputError, match="2 weights"):
        LocalQuadratic(w_bar=torch.ones(3), **fields)
