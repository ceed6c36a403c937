"""The curvature of a layer against dense float64 algebra."""

import dataclasses

import pytest
import torch

from chita.errors import InputError, NumericalError
from chita.problem import DenseRows, GradientGram, InputGram, LocalQuadratic, Prices
from tests.problems import layer_problem

SHAPES = [(1, 3, 5), (2, 2, 4), (1, 1, 7), (3, 1, 2)]
SUPPORTS = [0.2, 0.6, 1.0]
layers = pytest.mark.parametrize("shape", SHAPES)
seen = pytest.mark.parametrize("n", [3, 40])  # fewer inputs than entries leave G singular


def support(p, share, seed):
    order = torch.randperm(p, generator=torch.Generator().manual_seed(seed))
    return order[: max(1, int(share * p))].sort().values


@seen
@layers
def test_value_gradient_and_entries(shape, n):
    ours, dense = layer_problem(n, shape, ridge=0.1, seed=n)
    p = ours.curvature.size
    plain = dense.hessian - 0.1 * torch.eye(p).double()
    assert torch.allclose(ours.curvature.diagonal(), plain.diagonal())
    for weights in (torch.randn(p).double(), torch.zeros(p).double(), ours.w_bar):
        assert ours.value(weights) == pytest.approx(dense.value(weights), rel=1e-10, abs=1e-12)
        assert torch.allclose(ours.gradient_at(weights), dense.gradient_at(weights))
    index = support(p, 0.6, 1)
    assert torch.allclose(ours.curvature.block(index), plain[index][:, index])
    v = torch.randn(len(index)).double()
    image = ours.curvature.image(v, index)
    assert ours.curvature.inner(image, image) == pytest.approx(
        float(v @ plain[index][:, index] @ v)
    )
    whole = torch.randn(p).double()
    assert torch.allclose(ours.curvature.pullback(whole, index), (plain @ whole)[index])


@seen
@layers
@pytest.mark.parametrize("share", SUPPORTS)
def test_minimum_on_a_support_and_prices(shape, n, share):
    ours, dense = layer_problem(n, shape, ridge=0.1, seed=n + 1)
    p = ours.curvature.size
    index = support(p, share, 2)
    found = ours.minimise_on(index)
    assert torch.allclose(found.weights, dense.minimise_on(index.tolist()), rtol=1e-7, atol=1e-9)
    assert found.objective == pytest.approx(dense.value(found.weights), rel=1e-9, abs=1e-11)
    assert torch.allclose(found.residual, ours.residual(found.weights), atol=1e-9)
    mask = torch.zeros(p, dtype=torch.bool).index_fill(0, index, True)
    gradient = ours.gradient_from(found.residual, found.weights)
    prices = Prices.at(ours, mask, found, gradient, torch.arange(p))
    for moved in ([0], [1, p - 1], list(range(min(p, 3)))):
        other = mask.clone()
        other[moved] = ~other[moved]
        expected = dense.value(dense.minimise_on(other.nonzero().flatten().tolist()))
        change = prices.change(torch.tensor(moved))
        assert change == pytest.approx(expected - found.objective, rel=1e-6, abs=1e-9)


@layers
def test_restriction_is_the_same_function(shape):
    ours, dense = layer_problem(20, shape, ridge=0.1, seed=5)
    p = ours.curvature.size
    index = support(p, 0.7, 3)
    small = ours.restrict(index)
    for _ in range(3):
        inside = torch.randn(len(index)).double()
        weights = torch.zeros(p).double().index_copy(0, index, inside)
        assert small.value(inside) == pytest.approx(dense.value(weights), rel=1e-10, abs=1e-12)
        assert torch.allclose(small.gradient_at(inside), dense.gradient_at(weights)[index])
    part = support(len(index), 0.5, 4)
    kept = index[part]
    expected = dense.minimise_on(kept.tolist())[index]
    assert torch.allclose(small.minimise_on(part).weights, expected, rtol=1e-7, atol=1e-9)
    twice = small.restrict(part)
    inside = torch.randn(len(part)).double()
    weights = torch.zeros(p).double().index_copy(0, kept, inside)
    assert twice.value(inside) == pytest.approx(dense.value(weights), rel=1e-10, abs=1e-12)


def test_a_layer_of_one_output_is_the_gram_of_its_rows():
    """H = XᵀX/n: the layer's problem is that of rows X, whoever asks."""
    layer, _ = layer_problem(30, (1, 1, 8), ridge=0.2, seed=1)
    x = torch.linalg.cholesky(layer.curvature.exact[0]).T * 8**0.5
    rows = GradientGram(DenseRows(x.T.contiguous()))
    other = LocalQuadratic(w_bar=layer.w_bar, curvature=rows, ridge=0.2, shift=rows.constant(0.0))
    for _ in range(3):
        weights = torch.randn(8).double()
        assert layer.value(weights) == pytest.approx(other.value(weights), rel=1e-9)


def test_outputs_are_solved_in_batches_alike(monkeypatch):
    ours, dense = layer_problem(50, (2, 6, 9), ridge=0.01, seed=2)
    index = support(108, 0.4, 5)
    whole = ours.minimise_on(index).weights
    monkeypatch.setattr("chita.problem.input_gram._ENTRIES", 30)
    assert torch.allclose(ours.minimise_on(index).weights, whole, rtol=1e-12, atol=1e-14)
    assert torch.allclose(whole, dense.minimise_on(index.tolist()), rtol=1e-7, atol=1e-9)


def test_outputs_that_keep_their_weights_are_not_solved_anew(monkeypatch):
    ours, dense = layer_problem(50, (2, 6, 9), ridge=0.01, seed=2)
    first = ours.minimise_on(support(108, 0.4, 5))
    changed = torch.cat([first.weights.nonzero().squeeze(1), torch.tensor([0, 50])]).unique()
    changed = changed[changed != 30]  # outputs 0, 3 and 5 change
    solved = []
    whole = torch.linalg.cholesky_ex

    def counted(systems):
        solved.append(len(systems))
        return whole(systems)

    monkeypatch.setattr("torch.linalg.cholesky_ex", counted)
    found = ours.minimise_on(changed, near=first.factor)
    assert 1 <= sum(solved) <= 3
    assert torch.allclose(found.weights, dense.minimise_on(changed.tolist()), rtol=1e-7, atol=1e-9)
    assert torch.allclose(found.weights, ours.minimise_on(changed).weights, rtol=1e-12)
    assert sum(solved) > 12
    stronger = dataclasses.replace(ours, ridge=0.5)
    assert torch.equal(
        stronger.minimise_on(changed, near=found.factor).weights,
        stronger.minimise_on(changed).weights,
    )
    curvature = layer_problem(50, (2, 6, 9), ridge=0.01, seed=3)[0].curvature
    for other in (
        dataclasses.replace(ours, curvature=curvature),
        dataclasses.replace(ours, w_bar=ours.w_bar.flip(0)),
    ):
        afresh = other.minimise_on(changed).weights
        near = other.minimise_on(changed, near=ours.minimise_on(changed).factor).weights
        assert torch.allclose(near, afresh, rtol=1e-12)


def test_a_singular_gram_is_an_error_and_never_something_else():
    ours, _ = layer_problem(3, (1, 2, 6), ridge=0.0, seed=0)
    with pytest.raises(NumericalError, match="is not positive definite"):
        ours.minimise_on(torch.arange(12))
    with pytest.raises(NumericalError, match="no price"):
        ours.minimise_on(torch.tensor([0, 1])).factor.cross(torch.tensor([0]), 0.0)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 3, 4)])
def test_what_is_no_gram_is_refused(shape):
    with pytest.raises(InputError, match="is of no layer"):
        InputGram(torch.zeros(shape), outputs=2)
    with pytest.raises(InputError, match="is of no layer"):
        InputGram(torch.eye(2), outputs=0)
