import pytest
import torch

from chita.errors import InputError
from chita.problem import DenseRows
from tests.problems import stored_as

SIZES = [(3, 5), (7, 600), (20, 4)]  # (n, p); 600 weights span several float64 blocks


@pytest.mark.parametrize(("n", "p"), SIZES)
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_products_are_those_of_the_dense_matrix(n, p, share):
    a = torch.randn(n, p, dtype=torch.float64)
    rows = DenseRows(a.T.contiguous())
    index = torch.randperm(p)[: max(1, int(share * p))].sort().values
    v, z = torch.randn(p).double(), torch.randn(n).double()
    assert (rows.n, rows.p) == (n, p)
    assert torch.allclose(rows.times(v), a @ v)
    assert torch.allclose(rows.times(v[index], index), a[:, index] @ v[index])
    assert torch.allclose(rows.transpose_times(z), a.T @ z)
    assert torch.allclose(rows.transpose_times(z, index), a[:, index].T @ z)
    assert torch.equal(rows.gather(index), a.T[index])
    assert torch.allclose(rows.squared_norms(), (a**2).sum(0))


@pytest.mark.parametrize("share", [0.1, 1.0])
def test_a_float64_vector_is_multiplied_in_float64(share):
    n, p = 5, 1000
    a = torch.randn(n, p)
    rows = DenseRows(a.T.contiguous())
    index = torch.arange(int(share * p))
    v = torch.randn(len(index)).double()
    exact = a.double()[:, index] @ v
    assert torch.allclose(rows.times(v, index), exact, rtol=1e-14)
    assert not torch.allclose(rows.times(v.float(), index).double(), exact, rtol=1e-14)


@pytest.mark.parametrize("data", [torch.zeros(3), torch.zeros(3, 0), torch.zeros(3, 2).int()])
def test_what_is_no_matrix_of_gradients_is_refused(data):
    with pytest.raises(InputError, match="n >= 1"):
        DenseRows(data)


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
@pytest.mark.parametrize("share", [0.1, 1.0])
def test_sixteen_bits_round_the_storage_and_nothing_else(dtype, error, share):
    n, p = 6, 5000
    a = torch.randn(n, p) * torch.logspace(-7, 3, p)
    segments = (slice(0, 2000), slice(2000, 4000), slice(4000, p))
    rows = stored_as(a, dtype, segments)
    assert (rows.n, rows.p, rows.dtype) == (n, p, torch.float32)
    stored = rows.gather(torch.arange(p)).T
    # float16 also loses what lies 2**-31 below the largest of its segment (2**-39, with headroom)
    assert torch.all((stored - a).abs() <= error * a.abs() + 1e3 * 2**-31)
    index = torch.randperm(p)[: int(share * p)].sort().values
    v, z = torch.randn(p), torch.randn(n)
    exact = stored.double()
    for got, expected in (
        (rows.times(v[index], index), exact[:, index] @ v[index].double()),
        (rows.times(v), exact @ v.double()),
        (rows.transpose_times(z, index), exact[:, index].T @ z.double()),
        (rows.transpose_times(z), exact.T @ z.double()),
        (rows.squared_norms(), (exact**2).sum(0)),
    ):
        assert got.dtype == torch.float32
        assert torch.allclose(got.double(), expected, rtol=1e-5, atol=1e-4)
    precise = rows.times(v.double())
    assert torch.allclose(precise, exact @ v.double(), rtol=1e-13)


def test_a_scale_per_segment_keeps_small_gradients_in_float16():
    a = torch.cat([torch.full((4, 3), 1e-11), torch.full((4, 3), 100.0), torch.zeros(4, 1)], 1)
    one_scale = stored_as(a, torch.float16, (slice(0, 7),)).gather(torch.arange(7))
    assert not one_scale[:3].any()
    segments = (slice(0, 3), slice(3, 6), slice(6, 7))
    scaled = stored_as(a, torch.float16, segments).gather(torch.arange(7))
    assert torch.allclose(scaled, a.T, rtol=1e-3)
    tiny = torch.full((3, 2), 1e-37)
    stored = stored_as(tiny, torch.float16, (slice(0, 2),)).gather(torch.arange(2))
    assert torch.allclose(stored, tiny.T, rtol=1e-3, atol=0)
