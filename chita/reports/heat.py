"""Heat maps of losses: tensors down, sparsities across."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from chita.errors import InputError
from chita.records import LevelRecord
from chita.reports.figure import figure_of
from chita.sensitivity_record import SensitivityRecord

_DECADES = 4  # of growth that colours tell apart at most
_LABELLED = 12  # columns whose cells have room for a number
DARK = 0.6  # shades above which a number is white


@final
@dataclass(frozen=True, kw_only=True)
class Scale:
    """Shades of losses, by arsinh(loss/`width`): nearly linear below `width`, logarithmic above.

    `most` is the largest |loss|, whose shade is 1 or -1. The width is |loss| below which one level
    in ten lies, at most four decades below the largest.
    """

    width: float
    most: float

    @classmethod
    def of(cls, levels: Sequence[LevelRecord]) -> Scale:
        """Return the scale of some levels."""
        sizes = [abs(level.loss) for level in levels if level.loss != 0] or [1.0]
        low = float(np.quantile(sizes, 0.1))
        return cls(width=max(low, max(sizes) * 10.0**-_DECADES), most=max(sizes))

    def shade(self, loss: float) -> float:
        """Return a number in [-1, 1], of the sign of the loss.

        >>> Scale(width=1.0, most=100.0).shade(-100.0)
        -1.0
        """
        return float(np.arcsinh(loss / self.width) / np.arcsinh(self.most / self.width))

    def ticks(self, least: float) -> list[float]:
        """Return 0 and those powers of ten, of either sign, whose shades lie apart.

        >>> Scale(width=0.1, most=20.0).ticks(-3.0)
        [-1.0, 0.0, 1.0, 10.0]
        """
        powers = [10.0**k for k in range(_decade(self.width) + 1, _decade(self.most) + 1)]
        found = [-power for power in reversed(powers)] + [0.0, *powers]
        return [tick for tick in found if least <= tick <= self.most]


def _decade(size: float) -> int:
    return math.floor(math.log10(size))


def growth(loss: float) -> str:
    """Return the growth of a loss as cells show it.

    >>> growth(0.01234), growth(-2.0)
    ('+0.012', '-2')
    """
    return f"{loss:+.2g}" if loss else "0"


def check_picture(path: Path) -> None:
    """Raise `InputError` where `heat` could not write to `path`, whatever it shows."""
    try:
        from matplotlib.backend_bases import FigureCanvasBase  # noqa: PLC0415 (optional)
    except ImportError:
        raise InputError("A plot needs matplotlib: pip install matplotlib.") from None
    kinds = FigureCanvasBase.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in kinds:
        raise InputError(f"{path} is no kind of picture. Give a name in .png, .svg or .pdf.")
    if not path.parent.is_dir() or path.is_dir():
        raise InputError(f"{path} cannot be a file there. Give a path in a folder that exists.")


def heat(record: SensitivityRecord, path: Path) -> None:
    """Draw by how much the loss grows: red where it does, blue where it falls, grey where unknown.

    Raises `InputError` as `figure_of` does.
    """
    names, sparsities = [tensor.name for tensor in record.tensors], record.sparsities
    known = {(level.tensor, level.sparsity): level.loss for level in record.levels}
    cells = np.array([[known.get((n, s), np.nan) for s in sparsities] for n in names])
    scale = Scale.of(record.levels)
    with figure_of(path) as (figure, (axes,)):
        from matplotlib.colors import AsinhNorm  # noqa: PLC0415 (optional)

        width = 2.5 + 0.07 * max(map(len, names)) + 0.6 * len(sparsities)
        figure.set_size_inches(width, max(2.8, 1.5 + 0.2 * len(names)))
        norm = AsinhNorm(linear_width=scale.width, vmin=-scale.most, vmax=scale.most)
        image = axes.imshow(cells, norm=norm, cmap="RdBu_r", aspect="auto")
        axes.grid(visible=False)
        axes.set_facecolor("lightgrey")
        axes.set_xticks(range(len(sparsities)), [f"{s:g}" for s in sparsities])
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.set_xlabel("sparsity of one tensor, all others dense")
        dense = f"{record.loss} {record.dense_loss:.3g} dense"
        axes.set_title(f"{record.model}, {record.method}: {dense}", fontsize="medium")
        least = min(level.loss for level in record.levels)
        bar = figure.colorbar(image, label="growth of the loss", pad=0.02, aspect=30)
        ticks = scale.ticks(least)
        bar.set_ticks(ticks, labels=[f"{tick:g}" for tick in ticks])
        bar.ax.minorticks_off()
        bar.ax.set_ylim(least, scale.most)
        for (row, column), loss in np.ndenumerate(cells):
            if np.isfinite(loss) and len(sparsities) <= _LABELLED:
                ink = "white" if abs(scale.shade(loss)) > DARK else "black"
                place = {"ha": "center", "va": "center", "fontsize": 6, "color": ink}
                axes.text(column, row, growth(loss), **place)
