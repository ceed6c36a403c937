"""Factored and joined rows against the matrix that they stand for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chita.constraints import KeepK
from chita.problem import DenseRows, FactoredRows, GradientGram, JoinedRows, LocalQuadratic
from chita.solvers import BSO, CHITA

N = 7


def factored(out, width, n=N, dtype=torch.float64):
    rows = FactoredRows(torch.randn(out, n, dtype=dtype), torch.randn(width, n, dtype=dtype))
    a = torch.einsum("on,in->noi", rows._delta, rows._inputs).reshape(n, -1)
    return rows, a


def joined(dtype=torch.float64):
    first, a = factored(4, 5, dtype=dtype)
    second = torch.randn(N, 6, dtype=dtype)
    third, b = factored(3, 2, dtype=dtype)
    rows = JoinedRows([first, DenseRows(second.T.contiguous()), third])
    return rows, torch.cat([a, second, b], 1)


MADE = {"factored": lambda dtype=torch.float64: factored(4, 8, dtype=dtype), "joined": joined}


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


def test_a_gram_of_all_is_had_from_the_factors_alone():
    rows, a = factored(4, 8)
    both = JoinedRows([rows, rows])
    assert torch.allclose(rows.whole_gram(), a @ a.T)
    assert torch.allclose(both.whole_gram(), 2 * a @ a.T)
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
