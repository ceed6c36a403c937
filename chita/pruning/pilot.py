"""Prune in stages; before them pilot runs, where λ and structure are to be chosen for all.

Pilot runs are the first stages, run on copies of the network. One step does not show which λ is
right: half of the weights leave a network without a trace, at any λ. So the first stages run at one
λ, from the network as it is, and the losses after them are compared. λ climbs downhill by factors
of 4, and the structure is tried at the first λ. A pilot that falls behind the best by 5 % is not
finished. Pilots go the whole way (τ = 1), for a λ that needs short steps is no good one. The best
pilot is the beginning of the run, unless a step of it would have been shorter.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from torch import nn

from chita.errors import NumericalError
from chita.models.mode import restore, tensors_of
from chita.pruning.config import FULL, OUTPUTS
from chita.pruning.level_costs import with_levels
from chita.pruning.result import PruneResult
from chita.pruning.run import Run
from chita.pruning.stages import StageLoop
from chita.pruning.state import RunLog, RunState, Saved
from chita.pruning.tuning import COARSE, FIRST_RIDGE, climb, is_better, known, tolerance
from chita.records import TrialRecord, finite

_STAGES = 3  # of a pilot at most, and at most about a third of all
_CLIMBS = 4  # of λ in one direction at most
_HOPELESS = 0.05  # share by which a pilot is behind the best after as many stages


def run_stages(run: Run) -> PruneResult:
    """Prune in stages, after pilot runs where λ is to be chosen; also the path of refitting."""
    network, config = run.worked_on(), run.config
    several = config.stages.number > 1  # one stage has no finished part to keep
    checkpoint = run.checkpoint_file(network, wanted=several)
    with run.at_work(network):
        budget, searching = with_levels(run, network)
        state = RunState.begin(network, run.layout, budget, regrow=config.stages.regrow)
        loop = StageLoop(network, run, budget, begin=state.sparsity)
        # After the loop was made, since labels of validation may be drawn from the dense network,
        # which this overwrites.
        saved = checkpoint.load()
        if saved is not None:
            state = RunState.of(saved.mask, saved.done, saved.others)
        log = RunLog(config.logger, stages=len(state.records))

        def finished(state: RunState) -> None:
            log.log(stages=state.records)  # first: what is saved is not done again
            checkpoint.save(
                lambda: Saved(mask=state.mask, done=state.plain(), others=state.tensors())
            )

        state = run_loop(loop, state, finished)
    seconds = {"search": searching, "checkpoint": checkpoint.seconds}
    return run.result(network, state, budget=budget, seconds=seconds)


def run_loop(
    loop: StageLoop,
    state: RunState,
    finished: Callable[[RunState], None] = lambda _: None,
) -> RunState:
    """Run the stages that `state` does not hold yet, after pilot runs where there are none.

    `finished` is called after each stage, and once after those of a pilot.
    """
    if loop.tunes_stages and not state.records:
        state = run_pilots(loop, state)
        if state.records:
            loop.report(state)
            finished(state)
    return loop.run(state, finished)


def run_pilots(loop: StageLoop, state: RunState) -> RunState:
    """Return the state to go on from: with λ and structure chosen, perhaps some stages done.

    The network of the loop is that of the best pilot where its stages are taken over.
    """
    began = time.perf_counter()
    pilots = _Pilots(loop, state)
    best = pilots.chosen()
    trials = tuple(pilots.trials)
    if best is not None and not best.shortened:
        restore(loop.network, tensors_of(best.network))
        own = sum(sum(record.seconds.values()) for record in best.state.records)
        seconds = {"pilot": max(0.0, time.perf_counter() - began - own)}
        return _preceded(best.state, trials, seconds)
    choice = None if best is None else (best.ridge, best.structure)
    spent = {"pilot": time.perf_counter() - began}
    return state.model_copy(update={"choice": choice, "trials": trials, "spent": spent})


@final
@dataclass(frozen=True, kw_only=True)
class _Pilot:
    """One pilot run: its λ and structure, where it came to, and whether τ < 1 was better."""

    ridge: float
    structure: str
    network: nn.Module
    state: RunState
    shortened: bool


@final
class _Pilots:
    """The pilot runs of a loop, their `trials`, and their losses by λ and structure."""

    def __init__(self, loop: StageLoop, state: RunState) -> None:
        self._loop, self._state = loop, state
        self._stages = min(_STAGES, max(1, round(loop.stages / 3)))
        self._tolerance = tolerance(1.0)
        self._done: dict[tuple[float, str], _Pilot] = {}
        self._losses: dict[tuple[float, str], float] = {}
        self._path: list[float] = []  # the losses of the best pilot, stage by stage
        self.trials: list[TrialRecord] = []

    def chosen(self) -> _Pilot | None:
        """Return the best pilot; None where none of the first λ can be solved."""
        asked = self._loop.tuner.structure
        firsts = (self._tried(f"{FIRST_RIDGE * 16**i}x", asked) for i in range(3))
        first = next((pilot for pilot in firsts if pilot is not None), None)
        if first is None:
            return None
        ridge, structure = first.ridge, asked
        _, given = self._loop.tuner.choice
        if given is None and self._better(self._loss(ridge, OUTPUTS), self._loss(ridge, FULL)):
            structure = OUTPUTS
        ridge = climb(
            lambda r: self._loss(r, structure), ridge, (COARSE,), _CLIMBS, self._tolerance
        )
        return self._done[ridge, structure]

    def _loss(self, ridge: float, structure: str) -> float:
        if (ridge, structure) not in self._losses:
            self._tried(ridge, structure)
        return self._losses.setdefault((ridge, structure), math.inf)

    def _tried(self, ridge: float | str, structure: str) -> _Pilot | None:
        """Run one pilot and note its loss; return None where a system cannot be solved."""
        loop = self._loop.copied(ridge, structure, f"pilot run {len(self.trials) + 1}: ")
        try:
            state = loop.run(
                self._state.model_copy(update={"records": []}),
                until=lambda s: len(s.records) == self._stages or self._hopeless(s),
            )
        except NumericalError:
            return None
        last, stages = state.records[-1], len(state.records)
        used, loss = last.ridge or 0.0, known(last.validation_loss)
        self.trials.append(
            TrialRecord(
                ridge=used,
                first_order=last.first_order or 0.0,
                step_size=last.step_size or 0.0,
                structure=structure,
                loss=finite(loss),
                stages=stages,
            )
        )
        # By λ as used, which is λ as asked for unless no system could be solved with that.
        # One that was given up is behind, whatever its loss after fewer stages.
        self._losses[used, structure] = loss if stages >= len(self._path) else math.inf
        if self._losses[used, structure] <= min(self._losses.values()):
            self._path = [known(record.validation_loss) for record in state.records]
        pilot = _Pilot(
            ridge=used,
            structure=structure,
            network=loop.network,
            state=state,
            shortened=loop.tuner.shortened,
        )
        self._done[used, structure] = pilot
        return pilot

    def _hopeless(self, state: RunState) -> bool:
        """Return whether a pilot is behind the best after as many stages."""
        done = len(state.records)
        if done > len(self._path):
            return False
        best = self._path[done - 1]
        return not known(state.records[-1].validation_loss) <= best + _HOPELESS * abs(best)

    def _better(self, loss: float, than: float) -> bool:
        return is_better(loss, than, self._tolerance)


def _preceded(
    state: RunState, trials: tuple[TrialRecord, ...], seconds: dict[str, float]
) -> RunState:
    """Return the stages of a pilot, the first with all trials and the time of the other pilots."""
    first = state.records[0]
    before = {"trials": (*trials, *first.trials), "seconds": {**seconds, **first.seconds}}
    records = [first.model_copy(update=before), *state.records[1:]]
    return state.model_copy(update={"records": records})
