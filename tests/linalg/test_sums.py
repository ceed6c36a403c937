import torch

from chita.linalg.sums import _BLOCK, dot, total


def test_sums_are_accumulated_in_float64_over_several_blocks():
    size = 2 * _BLOCK + 5
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, size, generator=generator)
    assert abs(dot(a, b) / float(a.double() @ b.double()) - 1) < 1e-12
    assert abs(total(a) / float(a.double().sum()) - 1) < 1e-12
