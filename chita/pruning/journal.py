"""What a run tells of its stages, epochs and layers: to those who watch, and to a logger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import final

from chita.logger import Logger
from chita.progress import RUN_SECONDS_LEFT
from chita.records import EpochRecord, SolvedRecord, StageRecord

_STAGE = ("sparsity", "nnz", "objective", "held_out_loss", "ridge")
_EPOCH = ("sparsity", "loss", "rate", "pruned_metric", "metric", "seconds")
_LAYER = ("error", "objective", "ridge", "seconds")

Record = StageRecord | EpochRecord | SolvedRecord


@final
class Journal:
    """Tells a logger every stage, epoch and layer of a run once.

    Args:
        logger: None for nobody.
        stages, epochs, layers: how many the logger was told before the run was stopped.

    A layer that was left dense has no values; it counts nevertheless.
    """

    def __init__(
        self, logger: Logger | None, *, stages: int = 0, epochs: int = 0, layers: int = 0
    ) -> None:
        self._logger = logger
        self._told = {"stage": stages, "epoch": epochs, "layer": layers}

    def log(
        self,
        *,
        stages: Iterable[StageRecord] = (),
        epochs: Iterable[EpochRecord] = (),
        layers: Iterable[SolvedRecord] = (),
    ) -> None:
        """Tell those that are new among all of each kind so far."""
        told: dict[str, Iterable[Record]]
        told = {"stage": stages, "epoch": epochs, "layer": layers}
        for kind, records in told.items():
            for step, record in enumerate(records, 1):
                if step > self._told[kind]:
                    self._log(kind, record, step)
                    self._told[kind] = step

    def _log(self, kind: str, record: Record, step: int) -> None:
        values = _values(record)
        if self._logger is not None and values:
            self._logger.log({f"{kind}/{name}": value for name, value in values.items()}, step)


def _values(record: Record) -> dict[str, float]:
    """The numbers of a record, by name, that are known."""
    if isinstance(record, SolvedRecord):
        return _known(record, _LAYER) if record.left is None else {}
    if isinstance(record, EpochRecord):
        return _known(record, _EPOCH)
    seconds = {f"seconds/{phase}": spent for phase, spent in record.seconds.items()}
    return {**_known(record, _STAGE), **seconds}


def _known(record: Record, names: Sequence[str]) -> dict[str, float]:
    found = ((name, getattr(record, name)) for name in names)
    return {name: float(value) for name, value in found if value is not None}


def place(done: int, stages: int) -> str:
    """Return where a run of several stages is, after so many."""
    return "" if stages == 1 else f"stage {done + 1} of {stages}: "


def outcome(done: Sequence[StageRecord], stages: int) -> tuple[str, dict[str, float]]:
    """Return the last stage by name, and what it came to, for `Progress.tell`.

    What is left is thought to take the mean of the stages before, for each. The last one may take
    longer, so where it alone is left nothing is said of that.
    """
    spent = sum(sum(r.seconds.values()) - r.seconds.get("rehearse", 0.0) for r in done)
    values = _known(done[-1], ("objective", "held_out_loss"))
    name = f"stage {len(done)} of {stages}" if stages > 1 else "solve"
    left = stages - len(done)
    if stages > 1 and left != 1:
        values[RUN_SECONDS_LEFT] = spent / len(done) * left
    return name, values
