import pytest
import torch

from chita.errors import InputError
from chita.problem import DenseRows

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
