"""What the stages of a run came to so far."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields
from typing import Any, final

from torch import Tensor

from chita.models.mode import State
from chita.records import BatchNormRecord, StageRecord


@final
@dataclass(kw_only=True)
class Staged:
    """What the stages of a run came to so far: all that the next one, and the record, need.

    Fields: `mask` (p,), True for all weights before the first stage; `began`, the network as it was
    when the rows of the last stages were collected, where later ones hold these; `records`, of all
    stages; `choice`, the state of the `Chooser`; the others as in `RunRecord`, of the last stage.
    """

    mask: Tensor
    began: dict[int, State] = field(default_factory=dict)
    records: list[StageRecord] = field(default_factory=list)
    choice: dict[str, Any] | None = None
    ways: dict[str, str] = field(default_factory=dict)
    loss: str | None = None
    fisher: str | None = None
    rows: int = 0
    held_out: int = 0
    lower_bound: float | None = None
    batch_norm: BatchNormRecord | None = None

    def plain(self) -> dict[str, Any]:
        """Return all but the tensors as plain data."""
        others = {"mask", "began", "records", "batch_norm"}
        names = {field.name for field in fields(Staged)} - others
        return {
            **{name: getattr(self, name) for name in sorted(names)},
            "records": [record.model_dump(mode="json") for record in self.records],
            "batch_norm": self.batch_norm and self.batch_norm.model_dump(mode="json"),
        }

    def hold(self, stage: int, began: State, count: int) -> None:
        """Remember the network before a stage, and those of so many stages alone."""
        self.began = {s: t for s, t in (*self.began.items(), (stage, began)) if s > stage - count}

    def tensors(self) -> State:
        """Return the tensors of `began`, by stage and name."""
        return {f"{stage}.{n}": t for stage, state in self.began.items() for n, t in state.items()}

    @classmethod
    def of(cls, mask: Tensor, plain: dict[str, Any], tensors: State | None = None) -> Staged:
        """Return what a mask (p,), plain data and tensors make."""
        began: dict[int, State] = {}
        for name, tensor in (tensors or {}).items():
            stage, _, own = name.partition(".")
            began.setdefault(int(stage), {})[own] = tensor
        normed = plain.pop("batch_norm")
        records = [StageRecord.model_validate(record) for record in plain.pop("records")]
        return cls(
            mask=mask,
            began=began,
            records=records,
            batch_norm=normed and BatchNormRecord.model_validate(normed),
            **plain,
        )

    @property
    def digest(self) -> str | None:
        """The hash of the samples of all stages' rows."""
        digests = [record.data_hash for record in self.records]
        if len(digests) == 1 or None in digests:
            return digests[0]
        return hashlib.sha256("".join(map(str, digests)).encode()).hexdigest()

    @property
    def seconds(self) -> dict[str, float]:
        """Wall clock by phase, over all stages."""
        phases = dict.fromkeys(phase for record in self.records for phase in record.seconds)
        return {p: sum(r.seconds.get(p, 0.0) for r in self.records) for p in phases}
