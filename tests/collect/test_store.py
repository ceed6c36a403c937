"""What is written is what is read, in every type of storage."""

import pytest
import torch

from chita.collect.store import RowStore
from chita.layout import Axes, Layout
from chita.problem import DenseRows, FactoredRows, HStackRows

LAYOUT = Layout(names=("a", "b", "c"), shapes=((2, 3), (4, 5), (6,)), axes=(Axes(),) * 3)
ROWS = 8
STORED = [None, torch.float32, torch.bfloat16, torch.float16]
ERROR = {None: 0, torch.float32: 0, torch.bfloat16: 2**-8, torch.float16: 2**-10}


def gradients(growth=1.0):
    """Rows of very different scale by tensor, growing with every pair of rows."""
    scales = {"a": 1e-8, "b": 1.0, "c": 1e4}
    grown = torch.tensor([growth ** (i // 2) for i in range(ROWS)])
    return {
        name: scales[name] * torch.randn(ROWS, *shape) * grown.view(-1, *[1] * len(shape))
        for name, shape in zip(LAYOUT.names, LAYOUT.shapes, strict=True)
    }


@pytest.mark.parametrize("storage", STORED)
@pytest.mark.parametrize("growth", [1.0, 100.0, 0.01])
def test_rows_are_read_as_they_were_written(storage, growth):
    found = gradients(growth)
    store = RowStore(LAYOUT, ROWS, torch.float32, torch.device("cpu"), {}, storage)
    for start in range(0, ROWS, 2):
        for name, rows in found.items():
            store.write(name, start, rows[start : start + 2])
    rows = store.rows()
    assert isinstance(rows, DenseRows)
    expected = torch.cat([found[name].reshape(ROWS, -1) for name in LAYOUT.names], 1)
    read = rows.gather(torch.arange(LAYOUT.size)).T
    assert read.dtype == torch.float32
    error = ERROR[storage] * expected.abs()
    for segment in LAYOUT.segments:  # what float16 loses below its least number
        if storage == torch.float16:
            error[:, segment] += 2**-30 * expected[:, segment].abs().max()
    assert bool(((read - expected).abs() <= error).all())


def test_strides_do_not_matter():
    store = RowStore(LAYOUT, ROWS, torch.float32, torch.device("cpu"), {})
    for name, shape in zip(LAYOUT.names, LAYOUT.shapes, strict=True):
        values = torch.arange(float(ROWS * torch.Size(shape).numel()))
        transposed = values.view(ROWS, *reversed(shape)).permute(0, *range(len(shape), 0, -1))
        store.write(name, 0, transposed)
        index = torch.arange(LAYOUT.size)[LAYOUT.segments[LAYOUT.names.index(name)]]
        assert torch.equal(store.rows().gather(index).T, transposed.reshape(ROWS, -1))


@pytest.mark.parametrize("factored", [("a",), ("b",), ("a", "b")])
def test_factors_stand_beside_the_matrix(factored):
    found = gradients()
    shapes = {name: LAYOUT.shapes[LAYOUT.names.index(name)] for name in factored}
    store = RowStore(LAYOUT, ROWS, torch.float32, torch.device("cpu"), shapes)
    expected = []
    for name in LAYOUT.names:
        if name in factored:
            delta, inputs = (torch.randn(ROWS, size) for size in shapes[name])
            store.write(name, 0, (delta[:3], inputs[:3]))
            store.write(name, 3, (delta[3:], inputs[3:]))
            expected.append(torch.einsum("ro,ri->roi", delta, inputs).flatten(1))
        else:
            store.write(name, 0, found[name])
            expected.append(found[name].flatten(1))
    rows = store.rows()
    assert isinstance(rows, HStackRows)
    kinds = [type(part) for part in rows._parts]
    assert kinds.count(FactoredRows) == len(factored)
    assert torch.equal(rows.gather(torch.arange(LAYOUT.size)).T, torch.cat(expected, 1))
