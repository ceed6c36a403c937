"""Speed and size of a dense and a pruned network side by side, in every runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from chita.errors import ChitaError, InputError
from chita.imports import cause
from chita.machine import processor
from chita.progress import Progress, Silent, track
from chita.records import versions
from chita.runtimes.compare import difference
from chita.runtimes.copying import copied
from chita.runtimes.inputs import inputs_of, reference
from chita.runtimes.layers import NetworkPair, described, layers_of
from chita.runtimes.measured import Benchmark, Pair, RuntimeResult
from chita.runtimes.runtime import Runtime
from chita.runtimes.sizes import size_of, tensor_sizes
from chita.runtimes.table import find_runtimes
from chita.runtimes.timing import load, one_thread, side_by_side

_LAYER_SHARE = 0.2  # of the seconds for a network, for each of its layers

_Files = tuple[tuple[Path, ...], tuple[Path, ...]]  # of the dense and of the pruned network


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
        layers: measure every layer by itself, too.
        seconds: for which a network is measured in a runtime.
        name: of the network; its type's if None.
        progress: shows every measurement.

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
    both = NetworkPair(name="", dense=copied(dense), pruned=copied(pruned), inputs=given)
    _check_alike(both)
    reference(both.pruned, given)  # what fails in PyTorch fails now
    parts = layers_of(both) if layers else ()
    before = load()
    steps = len(chosen) * (1 + len(parts))
    with (
        tempfile.TemporaryDirectory() as folder,
        one_thread(),
        track(progress or Silent(), "benchmark", steps, "measurements") as task,
    ):
        place = Path(folder)
        measured = [_measured(r, both, place / "network", seconds, task) for r in chosen]
        results = []
        for runtime, (result, _) in zip(chosen, measured, strict=True):
            if result.pair is None:
                task.advance(len(parts))
            else:
                of_layers = _layers(runtime, parts, place, seconds, task)
                result = result.model_copy(update={"layers": of_layers})
            results.append(result)
        (place / "tensors").mkdir()
        sizes = [
            *tensor_sizes(both.dense, both.pruned, place / "tensors"),
            *(size_of(f"{r.name} file", *files) for r, files in measured if files is not None),
        ]
    return Benchmark(
        model=name or type(pruned).__name__,
        batch=given.samples,
        shapes={name: tuple(tensor.shape) for name, tensor in given.by_name.items()},
        runtimes=tuple(results),
        layers=tuple(map(described, parts)),
        sizes=tuple(sizes),
        load=(before, load()),
        processor=processor(),
        versions=versions(),
    )


def _measured(
    runtime: Runtime, both: NetworkPair, folder: Path, seconds: float, task: Progress
) -> tuple[RuntimeResult, _Files | None]:
    """Measure two networks in a runtime; return the files, too, that it opened them from."""
    try:
        runtime.check()
        dense, pruned = (
            runtime.prepare(network, both.inputs, folder / name, sparse=name == "pruned")
            for name, network in (("dense", both.dense), ("pruned", both.pruned))
        )
        gap = difference(reference(both.pruned, both.inputs), pruned.run(both.inputs))
        if not gap.within(runtime.tolerance):
            raise InputError(f"its outputs are other ones: {gap.reason or f'{gap.value:.2g}'}")
    except Exception as error:  # noqa: BLE001 (runtimes raise errors of their own)
        task.advance(1)
        said = str(error) if isinstance(error, ChitaError) else cause(error)
        reason = said.splitlines()[0]
        return RuntimeResult(name=runtime.name, why_not=runtime.why_not, skipped=reason), None
    calls = {"dense": partial(dense.run, both.inputs), "pruned": partial(pruned.run, both.inputs)}
    result = RuntimeResult(
        name=runtime.name,
        why_not=runtime.why_not,
        pair=Pair(**side_by_side(calls, seconds)),
        note=pruned.note,
        difference=gap.value,
    )
    task.advance(1)
    return result, (dense.files, pruned.files) if pruned.files else None


def _layers(
    runtime: Runtime, parts: Sequence[NetworkPair], place: Path, seconds: float, task: Progress
) -> dict[str, Pair]:
    """Measure every layer by itself; those that the runtime cannot run are left out."""
    found = {}
    for i, part in enumerate(parts):
        result, _ = _measured(runtime, part, place / str(i), seconds * _LAYER_SHARE, task)
        if result.pair is not None:
            found[part.name] = result.pair
    return found


def _check_alike(both: NetworkPair) -> None:
    dense, pruned = (
        {name: tensor.shape for name, tensor in network.named_parameters()}
        for network in (both.dense, both.pruned)
    )
    if dense != pruned:
        raise InputError(
            "The dense and the pruned network have other parameters or shapes. Give two networks "
            "of one architecture."
        )
