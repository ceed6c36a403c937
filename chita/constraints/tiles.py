"""Tiles of equal shape that weight matrices are cut into: N:M groups and blocks."""

from __future__ import annotations

from torch import Tensor

from chita.errors import InputError
from chita.layout import Layout

_LISTED = 8  # tensors that an error names


def tiles(layout: Layout, rows: int, columns: int, needs: str) -> list[Tensor]:
    """Return the flat indices of tiles of rows x columns weights, (b, rows·columns) per tensor.

    A tile is of neighbouring outputs x inputs, at one kernel position and within one group of a
    convolution.

    Raises `InputError` that begins with `needs` and lists the tensors that cannot be cut so, and as
    `Layout.check_axes` does.

    >>> from chita.layout import Axes
    >>> layout = Layout(names=("w",), shapes=((2, 4),), axes=(Axes(),))
    >>> tiles(layout, 2, 2, "")[0]
    tensor([[0, 1, 4, 5],
            [2, 3, 6, 7]])
    """
    layout.check_axes()
    found, unfit = [], {}
    for name, axes, index in layout.indexed():
        matrices = axes.matrices(index)
        outputs, inputs = matrices.shape[1:]
        if outputs % rows or inputs % columns:
            unfit[name] = f"{outputs} x {inputs}" if rows > 1 else f"{inputs} inputs"
            continue
        cut = matrices.unflatten(1, (-1, rows)).unflatten(3, (-1, columns))
        found.append(cut.movedim(3, 2).reshape(-1, rows * columns))
    if unfit:
        some = dict(list(unfit.items())[:_LISTED])
        listed = ", ".join(f"{name} has {shape}" for name, shape in some.items())
        names = ", ".join(some)
        if len(unfit) > len(some):
            listed += f", and so on, {len(unfit)} in all"
            names += " and so on"
        raise InputError(f"{needs}: {listed}. Leave them out with `ignore`: {names}.")
    return found
