import pytest
import torch

from chita.linalg.conjugate_gradient import conjugate_gradient


def system(size=12):
    a = torch.randn(size, 2 * size, dtype=torch.float64)
    return a @ a.T, torch.randn(size, dtype=torch.float64)


def test_it_meets_the_solution_and_tells_what_is_left():
    matrix, b = system()
    x, left = conjugate_gradient(lambda v: matrix @ v, b, lambda v: v, tolerance=1e-10, limit=50)
    assert torch.allclose(x, torch.linalg.solve(matrix, b))
    assert torch.allclose(left, b - matrix @ x, atol=1e-10)
    assert float(left.norm()) <= 1e-10 * float(b.norm())


def test_a_system_nearby_as_preconditioner_saves_steps():
    matrix, b = system()
    near = matrix + 0.01 * torch.eye(len(b))
    products = []

    def product(v):
        products.append(v)
        return matrix @ v

    solve = torch.linalg.inv(near)
    assert conjugate_gradient(product, b, lambda v: solve @ v, tolerance=1e-8, limit=6) is not None
    assert len(products) <= 5
    assert conjugate_gradient(product, b, lambda v: v, tolerance=1e-8, limit=6) is None


@pytest.mark.parametrize("wrong", [-1.0, float("nan")])
def test_what_is_not_positive_definite_has_no_solution(wrong):
    b = torch.ones(2, dtype=torch.float64)
    found = conjugate_gradient(lambda v: wrong * v, b, lambda v: v, tolerance=1e-8, limit=9)
    assert found is None
