import pytest
import torch

from chita.errors import NumericalError
from chita.linalg import spectral
from chita.linalg.cholesky import cholesky
from chita.linalg.spectral import largest_eigenvalue


def test_it_factors():
    a = torch.randn(5, 8, dtype=torch.float64)
    factor = cholesky(a @ a.T)
    assert torch.allclose(factor @ factor.T, a @ a.T)
    assert torch.equal(factor, factor.tril())


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "not positive definite"),
        (torch.tensor([[float("nan")]]), "not finite"),
        (torch.zeros(2, 2), "not positive definite"),
    ],
)
def test_failure_is_an_error_and_nothing_is_put_in_its_place(matrix, reason):
    with pytest.raises(NumericalError, match=reason):
        cholesky(matrix)


def test_power_iteration_meets_the_largest_eigenvalue(monkeypatch):
    monkeypatch.setattr(spectral, "_PRODUCTS", 500)
    monkeypatch.setattr(spectral, "_TOLERANCE", 0)
    a = torch.randn(6, 6, dtype=torch.float64)
    h = a @ a.T
    found = largest_eigenvalue(lambda v: h @ v, torch.ones(6, dtype=torch.float64))
    assert found == pytest.approx(float(torch.linalg.eigvalsh(h)[-1]), rel=1e-9)
    assert largest_eigenvalue(lambda v: 0 * v, torch.ones(2)) == 0
