"""Edges of curvatures and problems: no curvature, another device, parts, and inverses."""

from dataclasses import replace

import pytest
import torch

from chita.constraints import KeepK
from chita.errors import InputError
from chita.problem import (
    DenseRows,
    FactoredRows,
    GradientGram,
    HStackRows,
    InputGram,
    LocalQuadratic,
    NoCurvature,
    lower_bound,
)
from chita.problem.inverse import inverse_of
from tests.problems import block_problem, layer_problem, random_problem

INDEX = torch.tensor([0, 2])


def test_no_curvature_is_zero_in_every_product():
    none = NoCurvature(3)
    zeros, empty = torch.zeros(3), torch.zeros(0).double()
    assert (none.size, none.informed) == (3, False)
    assert none.constant(2.0).shape == none.image(torch.ones(3)).shape == (0,)
    assert none.constant(2.0).dtype == torch.float64
    assert torch.equal(none.pullback(empty), zeros)
    assert torch.equal(none.pullback(empty, INDEX), zeros[INDEX])
    assert torch.equal(none.diagonal(), zeros)
    assert none.inner(empty, empty) == 0
    assert torch.equal(none.block(INDEX), torch.zeros(2, 2, dtype=torch.float64))
    assert none.restrict(INDEX).size == 2
    factor = none.factor(INDEX)
    step, left = factor.solve(empty, 0.1)
    assert torch.equal(step, zeros[INDEX])
    assert left is empty
    assert torch.equal(factor.cross(torch.arange(3), 0.1), torch.zeros(3, 3, dtype=torch.float64))
    assert none.block(INDEX).dtype == factor.cross(INDEX, 0.1).dtype == torch.float64


def test_no_curvature_lies_where_the_weights_do():
    none = NoCurvature(3, "meta")
    for made in (
        none.constant(1.0),
        none.pullback(none.constant(1.0)),
        none.diagonal(),
        none.block(INDEX),
        none.restrict(INDEX).diagonal(),
    ):
        assert made.device.type == "meta"


def test_without_curvature_the_minimum_is_the_weights_that_stay():
    w_bar = torch.tensor([3.0, 2.0, 1.0])
    none = NoCurvature(3)
    problem = LocalQuadratic(w_bar=w_bar, curvature=none, ridge=2.0, shift=none.constant(0.0))
    minimum = problem.minimise_on(INDEX)
    assert minimum.weights.tolist() == [3, 0, 1]
    assert minimum.objective == pytest.approx(0.5 * 2.0 * 2.0**2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_constants_of_image_space_are_float64(dtype):
    a = torch.randn(4, 6, dtype=dtype)
    layer = InputGram(torch.eye(3, dtype=dtype).unsqueeze(0), outputs=2, dtype=dtype)
    for curvature in (GradientGram(DenseRows(a.T.contiguous())), layer):
        constant = curvature.constant(1.5)
        assert constant.dtype == torch.float64
        assert bool((constant == 1.5).all())
        assert curvature.image(torch.zeros(6, dtype=dtype)).shape == constant.shape


PARTS = [
    *((kind, slice(*ends)) for kind in ("rows", "blocks") for ends in ((0, 4), (3, 9), (8, 12))),
    *(("layer", slice(*ends)) for ends in ((0, 4), (4, 12))),  # of whole outputs
]


@pytest.mark.parametrize(("kind", "segment"), PARTS)
def test_a_part_is_q_with_the_rest_at_its_weights(kind, segment):
    if kind == "layer":
        problem, dense = layer_problem(9, (1, 3, 4), ridge=0.1, seed=3)
    else:
        make = block_problem if kind == "blocks" else random_problem
        problem, dense = make(7, 12, ridge=0.1, first_order=0.5, seed=3)
    halves = (slice(0, 6), slice(6, 12))
    problem = replace(problem, segments=halves, loss=lambda weights: 0.0)
    part = problem.part(segment)
    assert (part.segments, part.loss) == ((), None)
    for _ in range(3):
        own = torch.randn(segment.stop - segment.start, dtype=torch.float64)
        weights = problem.w_bar.clone()
        weights[segment] = own
        assert part.value(own) == pytest.approx(dense.value(weights), rel=1e-9)


@pytest.mark.parametrize(("n", "p"), [(20, 8), (5, 12), (8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_inverse_is_that_of_the_dense_matrix(n, p, dtype, monkeypatch):
    monkeypatch.setattr("chita.problem.inverse._CHUNK", 5)
    problem, dense = random_problem(n, p, ridge=0.3, first_order=0.0, seed=n, dtype=dtype)
    expected = torch.linalg.inv(dense.hessian)
    inverse = inverse_of(problem)
    close = 1e-4 if dtype == torch.float32 else 1e-9
    u = torch.randn(p, dtype=torch.float64)
    assert torch.allclose(inverse.diagonal, expected.diagonal(), rtol=close)
    assert torch.allclose(inverse.times(u), expected @ u, rtol=close, atol=close)
    assert inverse.diagonal.dtype == inverse.times(u.to(dtype)).dtype == torch.float64


def test_an_inverse_needs_gradients_and_a_ridge_or_enough_rows():
    layer, _ = layer_problem(9, (1, 3, 4), ridge=0.1, seed=3)
    with pytest.raises(InputError, match="InputGram has no inverse"):
        inverse_of(layer)
    few, _ = random_problem(5, 6, ridge=0.0, first_order=0.0, seed=1)
    with pytest.raises(InputError, match="5 rows of 6 weights"):
        inverse_of(few)
    enough, dense = random_problem(6, 6, ridge=0.0, first_order=0.0, seed=1)
    assert torch.allclose(inverse_of(enough).diagonal, torch.linalg.inv(dense.hessian).diagonal())


@pytest.mark.parametrize(("n", "p"), [(30, 12), (9, 12)])
def test_a_gram_in_strips_is_that_of_the_whole(n, p, monkeypatch):
    monkeypatch.setattr("chita.problem.gradient_gram._NARROWEST", 2)
    monkeypatch.setattr("chita.problem.gradient_gram._STRIPS", 3)
    problem, dense = random_problem(n, p, ridge=0.1, first_order=0.5, seed=5)
    for support in (torch.arange(p), torch.tensor([0, 3, 4, 5, 7, 8, 9]), torch.tensor([2])):
        found = problem.minimise_on(support)
        expected = dense.minimise_on(support.tolist())
        assert torch.allclose(found.weights, expected)
        assert found.objective == pytest.approx(dense.value(expected))


def test_products_with_no_weights_are_zero_in_the_type_of_the_product():
    some, none = torch.randn(4, 3), torch.zeros(0, dtype=torch.long)
    rows = HStackRows([DenseRows(some), DenseRows(some)])
    for given in (torch.float32, torch.float64):
        z = torch.ones(3, dtype=given)
        assert rows.transpose_times(z, none).shape == (0,)
        assert rows.transpose_times(z, none).dtype == torch.float32
        product = rows.times(torch.zeros(0, dtype=given), none)
        assert torch.equal(product, torch.zeros(3, dtype=given))
    assert rows.gather(none).shape == (0, 3)


@pytest.mark.parametrize("kind", ["rows", "blocks", "layer"])
def test_products_of_a_restriction_are_those_of_the_whole_at_its_weights(kind):
    if kind == "layer":
        problem, dense = layer_problem(9, (1, 3, 4), ridge=0.0, seed=3)
    else:
        make = block_problem if kind == "blocks" else random_problem
        problem, dense = make(7, 12, ridge=0.0, first_order=0.0, seed=3)
    index = torch.tensor([0, 1, 5, 6, 11])
    small = problem.curvature.restrict(index)
    hessian = dense.hessian[index][:, index]
    v = torch.randn(5, dtype=torch.float64)
    assert small.size == 5
    assert torch.allclose(small.diagonal(), hessian.diagonal())
    assert torch.allclose(small.block(torch.arange(5)), hessian)
    for exact in (True, False):
        pulled = small.pullback(small.image(v), exact=exact)
        assert pulled.shape == (5,)
        assert torch.allclose(pulled, hessian @ v)
    own = torch.tensor([1, 3, 4])
    within = small.pullback(small.image(v[own], own), own)
    assert torch.allclose(within, hessian[own][:, own] @ v[own])
    assert small.inner(small.image(v), small.image(v)) == pytest.approx(float(v @ hessian @ v))


@pytest.mark.parametrize("entries", [0, 2**17])
def test_blocks_multiply_in_the_type_that_was_asked_for(entries, monkeypatch):
    monkeypatch.setattr("chita.problem.block_gram._BLOCK_ENTRIES", entries)
    problem, _ = block_problem(7, 12, ridge=0.0, first_order=0.0, seed=3, dtype=torch.float32)
    curvature, support = problem.curvature, torch.tensor([1, 4, 5])  # blocks end at 4 and 12
    columns = curvature.columns(torch.arange(12).unsqueeze(0))[0].double()
    v = torch.randn(3)
    for given, close in ((v, 1e-5), (v.double(), 1e-13)):
        image = curvature.image(given, support)
        parts = (given[:1].double() @ columns[[1]], given[1:].double() @ columns[[4, 5]])
        assert image.dtype == given.dtype
        assert torch.allclose(image.double(), torch.cat(parts), rtol=close, atol=close)
    for index in (None, support, support[:0]):
        assert curvature.pullback(image, index).dtype == torch.float32
        if index is None or len(index):
            assert curvature.pullback(image, index, exact=True).dtype == torch.float64


def test_the_factor_of_other_rows_is_not_taken_over():
    support = torch.tensor([0, 1, 4, 6, 7, 8])
    for n in (4, 9):
        one, _ = block_problem(n, 12, ridge=0.1, first_order=0.5, seed=3)
        other, dense = block_problem(n, 12, ridge=0.1, first_order=0.5, seed=4)
        near = one.minimise_on(support).factor
        found = other.minimise_on(support, near=near)
        assert torch.allclose(found.weights, dense.minimise_on(support.tolist()))


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_bound_looks_at_as_many_masks_as_it_makes_steps(steps):
    problem, _ = random_problem(9, 12, ridge=0.1, first_order=0.0, seed=2)
    constraint, seen = KeepK(size=12, k=5), []

    class Watched:
        def select(self, values):
            seen.append(values)
            return constraint.select(values)

        def ceiling(self, values, mask):
            return constraint.ceiling(values, mask)

    minimum = problem.minimise_on(constraint.select(problem.w_bar).nonzero().squeeze(1))
    bound = lower_bound(problem, Watched(), minimum, steps=steps)
    assert len(seen) == steps + 2  # the beginning, and the best once more in float64
    assert bound <= minimum.objective


@pytest.mark.parametrize("make", [random_problem, block_problem])
@pytest.mark.parametrize(("first", "last"), [(0, 20), (1, 21), (3, 23), (9, 29), (0, 36), (4, 19)])
def test_a_factor_of_another_support_is_moved_to_the_right_one(make, first, last):
    problem, dense = make(6, 40, ridge=0.1, first_order=0.5, seed=first)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(first))
    before, after = order[: last // 3 + 4].sort().values, order[first:last].sort().values
    near = problem.minimise_on(before).factor
    found = problem.minimise_on(after, near=near)
    assert torch.allclose(found.weights, dense.minimise_on(after.tolist()))
    again = problem.minimise_on(before)
    assert torch.allclose(again.weights, dense.minimise_on(before.tolist()))


def test_products_with_equal_parts_of_factored_rows_are_in_the_wider_type():
    delta, inputs = torch.randn(3, 5), torch.randn(4, 5)
    rows = FactoredRows(delta, inputs)
    a = torch.einsum("on,in->oin", delta.double(), inputs.double())
    v, z = torch.randn(12, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    for dtype, close in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        times = rows.times_each(v.to(dtype), 3)
        expected = torch.einsum("oin,oi->on", a, v.to(dtype).double().view(3, 4))
        assert times.shape == expected.shape
        assert torch.allclose(times, expected.to(dtype), rtol=close, atol=close)
        back = rows.transpose_times_each(z.to(dtype))
        expected = torch.einsum("oin,on->oi", a, z.to(dtype).double()).flatten()
        assert back.shape == expected.shape
        assert torch.allclose(back, expected.to(dtype), rtol=close, atol=close)
