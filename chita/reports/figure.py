"""Figures in one style, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chita.errors import InputError
from chita.files import replacing


@contextmanager
def figure_of(path: Path, panels: int = 1) -> Iterator[tuple[Any, list[Any]]]:
    """Yield a figure and its panels side by side, and write it at the end of the block.

    The kind of picture is that of the file's name. Raises `InputError` without matplotlib, or
    when the file cannot be written.
    """
    try:
        from matplotlib import colormaps  # noqa: PLC0415 (optional)
        from matplotlib.figure import Figure  # noqa: PLC0415 (optional)
    except ImportError:
        raise InputError("A plot needs matplotlib: pip install matplotlib.") from None
    figure = Figure(figsize=(8 if panels == 1 else 2 + 4 * panels, 4.2), layout="constrained")
    found = list(figure.subplots(1, panels, squeeze=False)[0])
    ten = colormaps["tab10"].colors  # type: ignore[attr-defined]
    for axes in found:
        axes.set_prop_cycle(
            color=[*ten, *ten], linestyle=[style for style in ("-", "--") for _ in ten]
        )
        axes.grid(alpha=0.3)
    yield figure, found
    try:
        with replacing(path) as draft:
            figure.savefig(draft, dpi=150, format=path.suffix.lstrip(".") or None)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} could not be written: {error}. Choose another path.") from None
