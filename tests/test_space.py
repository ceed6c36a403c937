import torch

from chita.space import _BLOCK, SerialSpace


def test_sums_over_several_blocks_are_float64_sums():
    size = 2 * _BLOCK + 3
    a, b = torch.rand(size), torch.rand(size)
    space = SerialSpace()
    assert abs(space.dot(a, b) / float(a.double() @ b.double()) - 1) < 1e-12
    assert abs(space.sum(a) / float(a.double().sum()) - 1) < 1e-12
    assert space.sum(torch.ones(size, dtype=torch.bool)) == size
    assert space.kth_largest(a, 7) == a.sort(descending=True).values[6]
