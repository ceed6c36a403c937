"""What zeros buy: a dense and a pruned network side by side, in every runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from chita.errors import ChitaError, InputError
from chita.imports import told as raised
from chita.machine import processor
from chita.progress import Progress, Silent, track
from chita.records import versions
from chita.runtimes.compare import difference
from chita.runtimes.copying import copied
from chita.runtimes.inputs import Inputs, inputs_of, reference
from chita.runtimes.layers import Alone, layers_of
from chita.runtimes.measured import Benchmark, Pair, RuntimeMeasured, Size
from chita.runtimes.runtime import Opened, Runtime
from chita.runtimes.sizes import size_of, tensor_sizes
from chita.runtimes.table import find_runtimes
from chita.runtimes.timing import load, one_thread, side_by_side

_LAYER_SHARE = 0.2  # of the seconds for a network that a layer alone has


def benchmark(
    dense: nn.Module,
    pruned: nn.Module,
    inputs: Any,
    *,
    runtimes: Sequence[str] | None = None,
    layers: bool = True,
    seconds: float = 2.0,
    name: str | None = None,
    progress: Progress | None = None,
) -> Benchmark:
    """Measure a dense and a pruned network in several runtimes, on one thread of the CPU.

    In each, both are called in turns, after some calls that are not counted; what is compared are
    medians. Outputs of the pruned network must be those that PyTorch gives.

    Args:
        dense: the network before pruning, or another of its architecture whose weights are not
            zero; both stay as they are.
        pruned: the network after it.
        inputs: what one call takes: a tensor, a tuple of tensors, or a dict for keywords.
        runtimes: their names; None measures in all that are installed.
        layers: whether every layer is also measured alone.
        seconds: for which a network is measured in a runtime.
        name: of the network; its type's if None.
        progress: is told of every measurement.

    Raises:
        InputError: networks, inputs or names that do not fit, or a runtime is named that is not
            installed.

    >>> import torch
    >>> dense, pruned = nn.Linear(2, 2), nn.Linear(2, 2)
    >>> _ = pruned.weight.data.copy_(torch.eye(2))
    >>> found = benchmark(dense, pruned, torch.ones(1, 2), runtimes=["torch"], seconds=0.01)
    >>> [runtime.name for runtime in found.runtimes], found.layers[0].zeros
    (['torch'], 50.0)
    """
    given = inputs_of(inputs).mapped(lambda t: t.detach().cpu())
    chosen = find_runtimes(runtimes)
    theirs, ours = copied(dense), copied(pruned)
    _check_alike(theirs, ours)
    reference(ours, given)  # what fails in PyTorch fails now
    alone = layers_of(theirs, ours, given) if layers else ()
    before = load()
    with (
        tempfile.TemporaryDirectory() as folder,
        one_thread(),
        track(
            progress or Silent(), "benchmark", len(chosen) * (1 + len(alone)), "measurements"
        ) as task,
    ):
        place = Path(folder)
        bench = _Bench(theirs, ours, given, place / "network", seconds)
        bare = [bench.measured(runtime, task) for runtime in chosen]
        parts = [
            _Bench(layer.dense, layer.pruned, layer.inputs, place / str(i), seconds * _LAYER_SHARE)
            for i, layer in enumerate(alone)
        ]
        found = [
            done.model_copy(update={"layers": _layers(runtime, done, alone, parts, task)})
            for runtime, done in zip(chosen, bare, strict=True)
        ]
        (place / "tensors").mkdir()
        sizes = (*tensor_sizes(theirs, ours, place / "tensors"), *bench.sizes)
    return Benchmark(
        model=name or type(pruned).__name__,
        batch=given.samples,
        shapes={n: tuple(t.shape) for n, t in zip(given.names, given.tensors, strict=True)},
        runtimes=tuple(found),
        layers=tuple(layer.told for layer in alone),
        sizes=sizes,
        load=(before, load()),
        processor=processor(),
        versions=versions(),
    )


class _Bench:
    """Two networks with their inputs, and a folder for what runtimes make of them."""

    def __init__(
        self, dense: nn.Module, pruned: nn.Module, inputs: Inputs, folder: Path, seconds: float
    ) -> None:
        self._dense, self._pruned, self._inputs = dense, pruned, inputs
        self._folders = folder / "dense", folder / "pruned"
        for made in self._folders:
            made.mkdir(parents=True)
        self._seconds = seconds
        self.sizes: list[Size] = []

    def measured(self, runtime: Runtime, task: Progress) -> RuntimeMeasured:
        """Return what a runtime does with both."""
        told: dict[str, Any] = {"name": runtime.name, "why_not": runtime.why_not}
        missing = runtime.missing()
        try:
            if missing is not None:
                raise InputError(missing)
            dense, pruned = self._opened(runtime)
            gap = difference(reference(self._pruned, self._inputs), pruned.run(self._inputs))
            if not gap.within(runtime.tolerance):
                raise InputError(f"its outputs are other ones: {gap.reason or f'{gap.value:.2g}'}")
        except Exception as error:  # noqa: BLE001 (runtimes raise errors of their own)
            task.advance(1)
            said = str(error) if isinstance(error, ChitaError) else raised(error)
            return RuntimeMeasured(**told, skipped=said.splitlines()[0])
        calls: dict[str, Callable[[], object]] = {
            "dense": partial(dense.run, self._inputs),
            "pruned": partial(pruned.run, self._inputs),
        }
        pair = Pair(**side_by_side(calls, self._seconds))
        if pruned.files:
            self.sizes.append(size_of(f"{runtime.name} file", dense.files, pruned.files))
        task.advance(1)
        return RuntimeMeasured(**told, pair=pair, note=pruned.note, difference=gap.value)

    def _opened(self, runtime: Runtime) -> tuple[Opened, Opened]:
        theirs, ours = self._folders
        return (
            runtime.prepare(self._dense, self._inputs, theirs, sparse=False),
            runtime.prepare(self._pruned, self._inputs, ours, sparse=True),
        )


def _layers(
    runtime: Runtime,
    whole: RuntimeMeasured,
    alone: Sequence[Alone],
    parts: Sequence[_Bench],
    task: Progress,
) -> dict[str, Pair]:
    """Every layer alone, in a runtime that could take the network; those it cannot are left out."""
    if whole.pair is None:
        task.advance(len(alone))
        return {}
    pairs = zip(alone, parts, strict=True)
    found = {layer.name: part.measured(runtime, task) for layer, part in pairs}
    return {name: done.pair for name, done in found.items() if done.pair is not None}


def _check_alike(dense: nn.Module, pruned: nn.Module) -> None:
    shapes = [
        {name: tuple(t.shape) for name, t in network.named_parameters()}
        for network in (dense, pruned)
    ]
    if shapes[0] != shapes[1]:
        raise InputError(
            "The dense and the pruned network have other parameters or shapes. Give two networks "
            "of one architecture."
        )
