"""Results of a benchmark, as plain data and in words."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from chita.records import Record
from chita.runtimes.timing import Timing

_PLAIN = 1.995  # ratio from which one decimal is enough
_MARGIN = 0.03  # by which medians differ at least where one is called faster


class Pair(Record):
    """Dense and pruned in one runtime, in seconds of a call, measured in turns."""

    dense: Timing
    pruned: Timing

    @property
    def speedup(self) -> float:
        """The dense median over the pruned one."""
        return self.dense.median / self.pruned.median

    @property
    def faster(self) -> bool:
        """True if the speed-up is more than noise: above a margin, and quartiles do not overlap."""
        return self.speedup >= 1 + _MARGIN and self.pruned.high < self.dense.low

    @property
    def slower(self) -> bool:
        """True if the pruned one is slower by more than noise."""
        return self.speedup <= 1 / (1 + _MARGIN) and self.dense.high < self.pruned.low


class Size(Record):
    """Bytes of a kind of file: dense and pruned, plain and compressed by zstd (None: not here)."""

    name: str
    dense: int
    pruned: int
    dense_zstd: int | None = None
    pruned_zstd: int | None = None


class RuntimeResult(Record):
    """Dense and pruned in one runtime.

    Fields: `pair`, None if it was `skipped`, for that reason; `why_not`, why no gain is to be
    expected there, empty if one is; `note` on the pruned network there; `difference` of its
    outputs from PyTorch's (`Difference`); `layers`, each by itself, by name.
    """

    name: str
    pair: Pair | None = None
    skipped: str | None = None
    why_not: str = ""
    note: str = ""
    difference: float | None = None
    layers: dict[str, Pair] = Field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """The gain from pruning there."""
        if self.pair is None:
            return f"{self.name}: not measured, {self.skipped}"
        ratio, note = self.pair.speedup, f" ({self.note})" if self.note else ""
        if self.why_not:
            return f"{self.name}: no gain to expect, {self.why_not} (measured {ratio:.2f} ×)"
        if self.pair.faster:
            return f"{self.name}: {_times(ratio)} faster{note}"
        if self.pair.slower:
            return f"{self.name}: {1 / ratio:.2f} × slower{note}"
        return f"{self.name}: no gain, {ratio:.2f} ×{note}"


class MeasuredLayer(Record):
    """A layer measured by itself: its name, weight's shape, and per cent of zeros in it."""

    name: str
    shape: tuple[int, ...]
    zeros: float


class Benchmark(Record):
    """Dense against pruned, side by side on one thread.

    Fields: `model`; `batch`, samples of a call, of these `shapes` by input; `runtimes`, `layers`
    and `sizes`; `load`, processes that competed before and after, of the last minute; `processor`
    and `versions` of what computed.

    >>> Benchmark(
    ...     model="MLP",
    ...     batch=1,
    ...     shapes={"x": (1, 4)},
    ...     runtimes=(),
    ...     load=(None, None),
    ...     processor="",
    ...     versions={},
    ... ).sentences
    ()
    """

    format: int = 1
    model: str
    batch: int
    shapes: dict[str, tuple[int, ...]]
    runtimes: tuple[RuntimeResult, ...]
    layers: tuple[MeasuredLayer, ...] = ()
    sizes: tuple[Size, ...] = ()
    load: tuple[float | None, float | None]
    processor: str
    versions: dict[str, str]

    @property
    def sentences(self) -> tuple[str, ...]:
        """One of each runtime, one of the fastest, and one of the smallest file."""
        found = [runtime.sentence for runtime in self.runtimes]
        pairs = {runtime.name: runtime.pair for runtime in self.runtimes if runtime.pair}
        if len(pairs) > 1:
            found.append(_fastest(pairs))
        if self.sizes:
            dense = self.sizes[0].dense
            exact = [size for size in self.sizes if "float16" not in size.name]
            best = min(exact, key=lambda size: size.pruned)
            found.append(
                f"files: {dense / 1e6:.3f} MB of dense tensors become {best.pruned / 1e6:.3f} MB "
                f"as {best.name}, {_times(dense / max(best.pruned, 1))} smaller"
            )
        return tuple(found)


def _times(ratio: float) -> str:
    return f"{ratio:.1f} ×" if ratio >= _PLAIN else f"{ratio:.2f} ×"


def _fastest(pairs: Mapping[str, Pair]) -> str:
    """Compare the best dense run of any runtime with the best pruned one of any."""
    dense = min(pairs, key=lambda name: pairs[name].dense.median)
    pruned = min(pairs, key=lambda name: pairs[name].pruned.median)
    best = Pair(dense=pairs[dense].dense, pruned=pairs[pruned].pruned)
    gain = f"{_times(best.speedup)} faster" if best.faster else f"no gain, {best.speedup:.2f} ×"
    return (
        f"of all: dense is fastest in {dense} ({1000 * best.dense.median:.3g} ms), pruned in "
        f"{pruned} ({1000 * best.pruned.median:.3g} ms): {gain}"
    )
