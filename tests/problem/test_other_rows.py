"""Factored, joined and stacked rows against the matrix that they stand for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from chita.constraints import KeepK
from chita.linalg.windows import Windows
from chita.problem import (
    BlockGram,
    DenseRows,
    FactoredRows,
    GradientGram,
    HStackRows,
    LocalQuadratic,
    PositionedRows,
    Positions,
    VStackRows,
    gradient_gram,
)
from chita.problem.rows import dense as dense_module
from chita.solvers import BSO, CHITA
from tests.problems import stored_as

N = 7


def factored(out, width, n=N, dtype=torch.float64):
    rows = FactoredRows(torch.randn(out, n, dtype=dtype), torch.randn(width, n, dtype=dtype))
    a = torch.einsum("on,in->noi", rows._delta, rows._inputs).reshape(n, -1)
    return rows, a


def joined(dtype=torch.float64):
    first, a = factored(4, 5, dtype=dtype)
    second = torch.randn(N, 6, dtype=dtype)
    third, b = factored(3, 2, dtype=dtype)
    rows = HStackRows([first, DenseRows(second.T.contiguous()), third])
    return rows, torch.cat([a, second, b], 1)


def stacked(dtype=torch.float64):
    """Seven rows of 32 weights: three as factors, four with tensors stored in their own ways."""
    first, a = factored(4, 8, n=3, dtype=dtype)
    second, b = factored(2, 8, n=4, dtype=dtype)
    third = torch.randn(4, 16, dtype=dtype)
    below = HStackRows([second, DenseRows(third.T.contiguous())])
    return VStackRows([first, below]), torch.cat([a, torch.cat([b, third], 1)])


def positioned(shape=(4, 4, 2), n=N, dtype=torch.float64):
    """A convolution of five positions, two samples to a row."""
    lying = Windows(groups=1, kernel=shape[2:], stride=(2,), dilation=(1,), spread=(1, 1))
    centres = torch.randn(2 * n, 5, shape[0], dtype=dtype)
    seen = torch.randn(2 * n, 8, shape[1], dtype=dtype)
    rows = PositionedRows([Positions(windows=lying, centres=centres, seen=seen)], shape, n, dtype)
    around = functional.pad(seen, (0, 0, 1, 1))[:, : 4 * 2 + 2].unfold(1, 2, 2)  # (2n, 5, in, 2)
    return rows, torch.einsum("bqo,bqik->boik", centres, around).view(n, 2, -1).sum(1)


def partly_positioned(dtype=torch.float64):
    first, a = positioned((2, 4, 2), dtype=dtype)
    second = torch.randn(N, 16, dtype=dtype)
    return HStackRows([first, DenseRows(second.T.contiguous())]), torch.cat([a, second], 1)


MADE = {
    "positioned": positioned,
    "partly positioned": partly_positioned,
    "factored": lambda dtype=torch.float64: factored(4, 8, dtype=dtype),
    "joined": joined,
    "stacked": stacked,
}


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.sets(st.integers(0, 31)))
def test_products_are_those_of_the_dense_matrix(name, chosen):
    rows, a = MADE[name]()
    index = torch.tensor(sorted(chosen), dtype=torch.long)
    v, z = torch.randn(rows.p).double(), torch.randn(rows.n).double()
    assert (rows.n, rows.p, rows.dtype, rows.device.type) == (N, 32, torch.float64, "cpu")
    assert torch.allclose(rows.times(v), a @ v)
    assert torch.allclose(rows.times(v[index], index), a[:, index] @ v[index])
    assert torch.allclose(rows.transpose_times(z), a.T @ z)
    assert torch.allclose(rows.transpose_times(z, index), a[:, index].T @ z)
    assert torch.allclose(rows.gather(index), a.T[index])
    shuffled = index[torch.randperm(len(index))]
    assert torch.allclose(rows.gather(shuffled), a.T[shuffled])
    assert torch.allclose(rows.squared_norms(), (a**2).sum(0))
    system = GradientGram(rows).factor(index)._system._gram if len(index) >= N else None
    if system is not None:
        assert torch.allclose(system.tril(), (a[:, index] @ a[:, index].T).tril())


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize(
    "segment", [(0, 8), (3, 11), (16, 24), (20, 31), (18, 25), (5, 5), (0, 32)]
)
def test_a_part_is_the_columns_of_consecutive_weights(name, segment):
    rows, a = MADE[name]()
    part = rows.part(slice(*segment))
    assert (part.n, part.p) == (N, segment[1] - segment[0])
    assert torch.allclose(part.gather(torch.arange(part.p)), a.T[slice(*segment)])
    v = torch.randn(part.p).double()
    assert torch.allclose(part.times(v), a[:, slice(*segment)] @ v)
    if name == "factored":
        assert part.factored == (segment[0] % 8 == 0 == segment[1] % 8)


@pytest.mark.parametrize("name", [*MADE, "dense"])
@pytest.mark.parametrize("count", [1, 2, 4, 16, 32])
def test_products_of_equal_parts(name, count):
    """Outputs and parts of them, of rows that lie in one piece or in several."""
    rows, a = MADE[name]() if name in MADE else joined()
    if name == "dense":
        rows = DenseRows(a.T.contiguous())
    v, z = torch.randn(32).double(), torch.randn(count, N).double()
    parted = a.view(N, count, -1)
    times = torch.einsum("ncw,cw->cn", parted, v.view(count, -1))
    back = torch.einsum("ncw,cn->cw", parted, z).flatten()
    assert torch.allclose(rows.times_each(v, count), times)
    assert torch.allclose(rows.transpose_times_each(z), back)


@pytest.mark.parametrize("storage", [torch.float32, torch.bfloat16, torch.float16])
def test_products_of_equal_parts_in_the_type_that_is_asked_for(storage, monkeypatch):
    monkeypatch.setattr(dense_module, "_ENTRIES", 60)  # some parts at a time
    a = torch.randn(5, 24) * torch.logspace(-4, 0, 24)
    rows = stored_as(a, storage, (slice(0, 24),))
    exact = rows.gather(torch.arange(24)).T.double().view(5, 6, 4)
    v, z = torch.randn(24), torch.randn(6, 5)
    times = torch.einsum("ncw,cw->cn", exact, v.view(6, 4).double())
    back = torch.einsum("ncw,cn->cw", exact, z.double()).flatten()
    assert torch.allclose(rows.times_each(v.double(), 6), times, rtol=1e-12)
    assert torch.allclose(rows.transpose_times_each(z.double()), back, rtol=1e-12)
    assert rows.times_each(v, 6).dtype == torch.float32
    assert rows.transpose_times_each(z).dtype == torch.float32
    assert torch.allclose(rows.times_each(v, 6).double(), times, atol=1e-5)


def test_a_part_of_dense_rows_is_not_copied_and_keeps_its_scale():
    a = torch.randn(5, 9) * torch.logspace(-6, 0, 9)
    rows = DenseRows(a.T.contiguous())
    assert rows.part(slice(2, 6))._data.data_ptr() == rows._data[2].data_ptr()
    stored = stored_as(a, torch.float16, (slice(0, 4), slice(4, 9))).part(slice(2, 6))
    assert torch.allclose(stored.gather(torch.arange(4)), a.T[2:6], rtol=1e-3)


def test_a_gram_of_all_is_had_from_the_factors_alone():
    rows, a = factored(4, 8)
    both = HStackRows([rows, rows])
    assert torch.allclose(rows.whole_gram().tril(), (a @ a.T).tril())
    assert torch.allclose(both.whole_gram().tril(), (2 * a @ a.T).tril())
    assert joined()[0].whole_gram() is None


@pytest.mark.parametrize("name", MADE)
def test_a_float64_vector_is_multiplied_in_float64(name):
    rows, a = MADE[name](dtype=torch.float32)
    index, v = torch.arange(0, 32, 3), torch.randn(11).double()
    if name == "factored":  # the products of the factors, unrounded
        delta, inputs = rows._delta.double(), rows._inputs.double()
        exact = torch.einsum("on,in->noi", delta, inputs).reshape(N, -1)[:, index] @ v
        assert torch.allclose(rows.times(v, index), exact, rtol=1e-14)
    assert torch.allclose(rows.times(v, index), a.double()[:, index] @ v, atol=1e-5)
    assert rows.times(v, index).dtype == torch.float64
    assert rows.times(v.float(), index).dtype == torch.float32
    assert rows.gather(index).dtype == torch.float32
    assert rows.transpose_times(torch.randn(N).double()).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_large_system_is_solved_without_being_formed(monkeypatch, dtype):
    monkeypatch.setattr(gradient_gram, "_ITERATING", 0)
    rows, a = factored(6, 8, n=20, dtype=dtype)
    a, curvature = a.double(), GradientGram(rows)
    residual, ridge = torch.randn(20).double(), 0.3
    factor = None
    for k in (48, 40, 24):
        support = torch.randperm(48)[:k].sort().values
        factor = curvature.factor(support, factor)
        step, left = factor.solve(residual, ridge)
        columns = a[:, support]
        exact = torch.linalg.solve(
            columns.T @ columns + 20 * ridge * torch.eye(k).double(), -columns.T @ residual
        )
        assert torch.allclose(step.double(), exact, rtol=0, atol=1e-5 * float(exact.norm()))
        assert torch.allclose(left, residual + columns @ step.double(), atol=1e-5)
        assert not factor.priced  # K was not formed
    crossed = factor.cross(torch.arange(3), ridge)
    system = columns @ columns.T + 20 * ridge * torch.eye(20).double()
    assert torch.allclose(crossed, a[:, :3].T @ torch.linalg.solve(system, a[:, :3]), atol=1e-5)
    assert factor.priced
    moved = curvature.factor(support[1:], factor)  # K from that of a support nearby
    assert torch.allclose(
        moved._explicit()._system._gram.tril(),
        (a[:, support[1:]] @ a[:, support[1:]].T).tril(),
        atol=1e-4,
    )


def test_where_conjugate_gradients_do_not_serve_the_system_is_formed(monkeypatch):
    monkeypatch.setattr(gradient_gram, "_ITERATING", 0)
    monkeypatch.setattr(gradient_gram, "_ITERATIONS", 1)
    rows, a = factored(6, 8, n=20)
    for ridge in (0.3, 0.0):
        factor = GradientGram(rows).factor(torch.arange(24))
        residual = torch.randn(20).double()
        _, left = factor.solve(residual, ridge)
        assert factor.priced
        inverse = torch.linalg.inv(a[:, :24] @ a[:, :24].T + 20 * ridge * torch.eye(20).double())
        assert torch.allclose(left, 20 * ridge * inverse @ residual)


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("solver", [BSO(), CHITA()])
@pytest.mark.parametrize("k", [4, 20])
def test_solvers_find_what_they_find_with_the_dense_matrix(name, solver, k):
    rows, a = MADE[name]()
    found = []
    w_bar = torch.randn(32, generator=torch.Generator().manual_seed(1)).double()
    for stored in (rows, DenseRows(a.T.contiguous())):
        curvature = GradientGram(stored)
        problem = LocalQuadratic(
            w_bar=w_bar, curvature=curvature, ridge=0.1, shift=curvature.constant(1.0)
        )
        found.append(solver.solve(problem, KeepK(size=32, k=k)))
    assert torch.equal(found[0].mask, found[1].mask)
    assert torch.allclose(found[0].weights, found[1].weights, rtol=1e-8, atol=1e-10)
    assert found[0].objective == pytest.approx(found[1].objective, rel=1e-10)


@pytest.mark.parametrize("made", [positioned, partly_positioned])
@pytest.mark.parametrize("width", [8, 16])  # of a block, beside 7 rows
@pytest.mark.parametrize("together", [1, 10, 1000])
def test_systems_of_blocks_whose_columns_are_formed(made, width, together, monkeypatch):
    monkeypatch.setattr("chita.problem.rows.rows._TOGETHER", together * N)
    rows, a = made()
    blocks = [slice(start, start + width) for start in range(0, 32, width)]
    formed, dense = BlockGram(rows, blocks), BlockGram(DenseRows(a.T.contiguous()), blocks)
    support = torch.tensor([0, 1, 2, 5, 7, *range(16, 28), 31])
    moved = torch.tensor([0, 1, 2, 5, 7, *range(16, 25), 26, 27, 30, 31])
    residual = torch.randn(len(blocks) * N).double()
    near = None
    for asked in (support, support, moved):
        near = formed.factor(asked, near)
        found, expected = (f.solve(residual, 0.1) for f in (near, dense.factor(asked)))
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-9)
        index = torch.tensor([31, 3, 0, 17, 9])
        crossed = dense.factor(asked).cross(index, 0.1)
        assert torch.allclose(near.cross(index, 0.1), crossed, atol=1e-9)


@pytest.mark.parametrize("made", [positioned, partly_positioned])
@pytest.mark.parametrize("blocks", [1, 4])
def test_solvers_find_the_same_on_formed_columns(made, blocks):
    rows, a = made()
    own = [slice(start, start + 32 // blocks) for start in range(0, 32, 32 // blocks)]
    w_bar, found = torch.randn(32).double(), []
    for held in (rows, DenseRows(a.T.contiguous())):
        curvature = GradientGram(held) if blocks == 1 else BlockGram(held, own)
        shift = curvature.of_rows(torch.full((N,), 0.3).double())
        problem = LocalQuadratic(w_bar=w_bar, curvature=curvature, ridge=0.2, shift=shift)
        found.append([kind().solve(problem, KeepK(size=32, k=11)) for kind in (BSO, CHITA)])
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours.mask, theirs.mask)
        assert torch.allclose(ours.weights, theirs.weights, atol=1e-9)
        assert abs(ours.objective - theirs.objective) <= 1e-9 * abs(theirs.objective)
