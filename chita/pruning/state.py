"""What a run has reached: its state, the checkpoint it goes on from, its times and its log."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from chita.constraints import Budget
from chita.errors import InputError, OutputError
from chita.files import draft_beside, replacing, using
from chita.layout import Layout
from chita.logger import Logger
from chita.models.mode import State, restore, state_of, tensors_of
from chita.models.prunable import read_weights
from chita.pruning.config import Checkpoint
from chita.records import (
    BatchNormRecord,
    EpochRecord,
    SolvedRecord,
    StageRecord,
    TrialRecord,
    known_values,
    peak_rss_mb,
)

_FORMAT = "chita-checkpoint-6"
_MASK, _STATE, _OTHERS = "mask", "state.", "others."
_STAGE = ("sparsity", "nnz", "objective", "validation_loss", "ridge")
_EPOCH = ("sparsity", "loss", "rate", "pruned_metric", "metric", "seconds")
_LAYER = ("error", "objective", "ridge", "seconds")
_QUICK = 0.25  # seconds of a write that need not be spared
_SPARED = 10  # times what a write takes that pass before the next, where it may wait


@final
class PhaseTimer:
    """Seconds and memory of the phases of a run.

    Fields: `seconds` by phase; `memory_mb`, the peak of resident memory that the process had come
    to by the end of each, in MB, without those of systems that do not report it.

    Args:
        seconds: of phases that ran before.
    """

    def __init__(self, seconds: Mapping[str, float] | None = None) -> None:
        self.seconds: dict[str, float] = dict(seconds or {})
        self.memory_mb: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, phase: str) -> None:
        """Add the time since the last stop to a phase."""
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._last
        peak = peak_rss_mb()
        if peak is not None:
            self.memory_mb[phase] = peak
        self._last = now

    @contextmanager
    def phase(self, phase: str) -> Iterator[None]:
        """Add the time of a block, and of nothing before it, to a phase."""
        self._last = time.perf_counter()
        yield
        self.stop(phase)


@final
class RunState(BaseModel):
    """What the stages of a run have reached: all that the next one, and the record, need.

    Fields: `mask` (p,), before the first stage that of `begin`; `began`, the network as it was
    when the gradients of the last stages were collected, where later ones use these; `records`, of
    all stages; `epochs` of training, and why it `stopped` early; `solved`, what came of each layer
    where they are pruned one by one; `choice`, λ and structure as chosen for all stages; `trials`
    and `spent`, what was tried and how many seconds passed by phase before the next stage, whose
    record takes them over; the rest as in `RunRecord`, of the last stage.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    mask: Tensor
    began: dict[int, State] = {}
    records: list[StageRecord] = []
    epochs: list[EpochRecord] = []
    stopped: str | None = None
    solved: dict[str, SolvedRecord] = {}
    choice: tuple[float | None, str | None] | None = None
    trials: tuple[TrialRecord, ...] = ()
    spent: dict[str, float] = {}
    backends: dict[str, str] = {}
    loss: str | None = None
    weighting: str | None = None
    samples: int = 0
    validation: int = 0
    lower_bound: float | None = None
    batch_norm: BatchNormRecord | None = None

    @classmethod
    def begin(
        cls, network: nn.Module, layout: Layout, budget: Budget, *, regrow: bool = True
    ) -> RunState:
        """Return the state before a run, with all weights kept.

        Without `regrow`, those that are zero count as removed, unless the budget needs them to keep
        as many as it does. A block that is kept whole is kept while one weight of it is not zero.
        """
        device = network.get_parameter(layout.names[0]).device
        if regrow:
            return cls(mask=torch.ones(layout.size, dtype=torch.bool, device=device))
        constraint = budget.bind(layout)
        nonzero = constraint.whole(read_weights(network, layout) != 0)
        return cls(mask=(nonzero | constraint.select(nonzero.double())).to(device))

    def plain(self) -> dict[str, Any]:
        """Return all but the tensors as plain data."""
        return self.model_dump(mode="json", exclude={"mask", "began"})

    def remember(self, stage: int, began: State, count: int) -> None:
        """Hold the network as it was before a stage, and before the last `count` stages only."""
        self.began = {s: t for s, t in (*self.began.items(), (stage, began)) if s > stage - count}

    def tensors(self) -> State:
        """Return the tensors of `began`, by stage and name."""
        return {f"{stage}.{n}": t for stage, state in self.began.items() for n, t in state.items()}

    @classmethod
    def of(cls, mask: Tensor, plain: dict[str, Any], tensors: State | None = None) -> RunState:
        """Return the state that a mask (p,), plain data and tensors make."""
        began: dict[int, State] = {}
        for name, tensor in (tensors or {}).items():
            stage, _, own = name.partition(".")
            began.setdefault(int(stage), {})[own] = tensor
        return cls(mask=mask, began=began, **plain)

    @property
    def sparsity(self) -> float:
        """Share of the weights that is removed."""
        return 1 - float(self.mask.double().mean())

    @property
    def digest(self) -> str | None:
        """The hash of the samples of all stages' gradients."""
        digests = [record.data_hash for record in self.records]
        if len(digests) == 1 or None in digests:
            return digests[0]
        return hashlib.sha256("".join(map(str, digests)).encode()).hexdigest()

    @property
    def seconds(self) -> dict[str, float]:
        """Wall clock by phase, over all stages."""
        phases = dict.fromkeys(phase for record in self.records for phase in record.seconds)
        return {p: sum(r.seconds.get(p, 0.0) for r in self.records) for p in phases}


@final
@dataclass(frozen=True, kw_only=True)
class Saved:
    """Content of a checkpoint: a `mask` (p,), plain data `done`, and `others`, named tensors.

    `changed` names the tensors of the network that are not as before the run; None for all.
    """

    mask: Tensor
    done: Any
    others: dict[str, Tensor]
    changed: Collection[str] | None = None


@final
class CheckpointFile:
    """The file of a run's finished part: written whole whenever it grows, found again later.

    Args:
        checkpoint: the file, which exists only while a run is unfinished, and whether to go on
            from it; if not, an existing file is an error. None keeps nothing.
        settings: all that decides on the result. A run goes on under the same ones only.
        network: as it is before the run.

    Raises:
        InputError: the file is there and not to be gone on from, is no such file, or belongs to
            other settings or another network.
        OutputError: it could not be written.

    Field: `seconds`, spent on reading, writing and comparing so far.
    """

    def __init__(
        self, checkpoint: Checkpoint | None, *, settings: dict[str, Any], network: nn.Module
    ) -> None:
        self._network = network
        self._path: Path | None = None
        self._found: dict[str, str] | None = None
        self.seconds = 0.0
        self._last, self._took = time.perf_counter(), 0.0  # the end of a write, and its seconds
        self._waiting: Callable[[], Saved] | None = None
        if checkpoint is not None:
            with self._timed():
                self._open(checkpoint, settings, network)

    def _open(self, checkpoint: Checkpoint, settings: dict[str, Any], network: nn.Module) -> None:
        self._path = path = checkpoint.path
        with using(path), draft_beside(path):
            pass  # its folders can be made, and are taken away again
        self._settings = json.loads(json.dumps({**settings, "network": _digest(network)}))
        if path.exists():
            self._found = _read(path)
            if not checkpoint.resume:
                raise InputError(
                    f"{path} holds the finished part of an earlier run. Go on from there with "
                    "`resume`, or delete it."
                )
            self._check_settings(self._found)

    def load(self) -> Saved | None:
        """Return what was saved, with the network as it was then; None where nothing was."""
        if self._found is None or self._path is None:
            return None
        with self._timed(), safe_open(self._path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        mask = _unpacked(state.pop(_MASK), int(self._found["size"]))
        device = next(self._network.parameters()).device
        found, others = (
            {n.removeprefix(kind): t for n, t in state.items() if n.startswith(kind)}
            for kind in (_STATE, _OTHERS)
        )
        restore(self._network, found)
        return Saved(mask=mask.to(device), done=json.loads(self._found["done"]), others=others)

    def save(self, content: Callable[[], Saved], *, patient: bool = False) -> None:
        """Write content and the network in place of what was there; it is made only for that.

        Where `patient`, a slow write waits until it takes a tenth of the time since the last;
        `flush` ends the waiting. Raises `OutputError` when it cannot be written; what was there is
        then as it was.
        """
        if self._path is None:
            return
        slow = self._took > max(_QUICK, (time.perf_counter() - self._last) / _SPARED)
        self._waiting = content if patient and slow else None
        if self._waiting is not None:
            return
        before = self.seconds
        with self._timed():
            self._write(self._path, content())
        self._last, self._took = time.perf_counter(), self.seconds - before

    def flush(self) -> None:
        """Write what waits, as `save` does."""
        if self._waiting is not None:
            self.save(self._waiting)

    def _write(self, path: Path, saved: Saved) -> None:
        changed = {f"{_STATE}{n}": t for n, t in state_of(self._network, saved.changed).items()}
        others = {f"{_OTHERS}{name}": tensor.clone() for name, tensor in saved.others.items()}
        about = {
            "format": _FORMAT,
            "size": str(len(saved.mask)),
            "settings": json.dumps(self._settings),
            "done": json.dumps(saved.done),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as draft:
                save_file({_MASK: _packed(saved.mask), **changed, **others}, draft, metadata=about)
        except Exception as error:  # safetensors raises its own type when the disk is full
            raise OutputError(
                f"{path} could not be written: {error}. Free space, or choose another place."
            ) from error

    @contextmanager
    def _timed(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - began

    def _check_settings(self, found: dict[str, str]) -> None:
        before = json.loads(found["settings"])
        if before.pop("network") != self._settings["network"]:
            raise InputError(
                f"{self._path} belongs to a network with other weights. Give the same, or delete "
                "it to start over."
            )
        now = {name: value for name, value in self._settings.items() if name != "network"}
        differing = [*_differences(before, now)]
        if differing:
            raise InputError(
                f"{self._path} was written under other settings: {'; '.join(differing)}. Give the "
                "same, or delete it to start over."
            )


def _read(path: Path) -> dict[str, str]:
    """Return what a checkpoint says of itself."""
    try:
        with safe_open(path, framework="pt") as file:
            about: dict[str, str] = file.metadata() or {}
    except Exception as error:  # noqa: BLE001 (safetensors raises its own type)
        raise InputError(f"{path} cannot be read: {error}. Delete it.") from None
    if about.get("format") != _FORMAT:
        raise InputError(f"{path} does not hold the finished part of a run. Choose another path.")
    return about


def _packed(mask: Tensor) -> Tensor:
    """Return a mask (p,) as bits, (⌈p/8⌉,)."""
    return torch.from_numpy(np.packbits(mask.cpu().numpy()))


def _unpacked(bits: Tensor, size: int) -> Tensor:
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=size)).bool()


def _differences(before: dict[str, Any], now: dict[str, Any], of: str = "") -> Iterator[str]:
    """Yield what differs, a phrase each; of tables, which of their options."""
    for name, value in now.items():
        own = before.get(name)
        if isinstance(own, dict) and isinstance(value, dict):
            yield from _differences(own, value, f"{of}{name}.")
        elif own != value:
            yield f"`{of}{name}` was {own!r} and is {value!r}"


def _digest(network: nn.Module) -> str:
    """Return the SHA-256 of all weights and buffers."""
    total = hashlib.sha256()
    for name, value in tensors_of(network).items():
        flat = value.detach().cpu().contiguous().reshape(-1)
        total.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
        total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()


@final
class RunLog:
    """Log of a run: every stage, epoch and layer goes to a logger once.

    Args:
        logger: None for no log.
        stages, epochs, layers: how many were logged before the run was stopped.

    A layer that was left dense has no values; it counts nevertheless.
    """

    def __init__(
        self, logger: Logger | None, *, stages: int = 0, epochs: int = 0, layers: int = 0
    ) -> None:
        self._logger = logger
        self._logged = {"stage": stages, "epoch": epochs, "layer": layers}

    def log(
        self,
        *,
        stages: Iterable[StageRecord] = (),
        epochs: Iterable[EpochRecord] = (),
        layers: Iterable[SolvedRecord] = (),
    ) -> None:
        """Log the records that are new among all of each kind so far."""
        self._add("stage", (_stage_values(record) for record in stages))
        self._add("epoch", (known_values(record, _EPOCH) for record in epochs))
        self._add("layer", (_layer_values(record) for record in layers))

    def _add(self, kind: str, values: Iterable[dict[str, float]]) -> None:
        for step, own in enumerate(values, 1):
            if step <= self._logged[kind]:
                continue
            if self._logger is not None and own:
                self._logger.log({f"{kind}/{name}": value for name, value in own.items()}, step)
            self._logged[kind] = step


def _stage_values(record: StageRecord) -> dict[str, float]:
    seconds = {f"seconds/{phase}": spent for phase, spent in record.seconds.items()}
    return {**known_values(record, _STAGE), **seconds}


def _layer_values(record: SolvedRecord) -> dict[str, float]:
    return known_values(record, _LAYER) if record.skipped is None else {}
