"""Numbers in TensorBoard's own files, read by its own reader, beside the record of the run."""

import json
import math
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

import chita
from chita.data.digits import digits
from chita.errors import InputError
from chita.pruning.state import CheckpointFile
from chita.training.fine_tune import Diverged, FineTuner
from tests.cli.refusals import refused
from tests.program import chita as invoke

STAGED = {
    "sparsity": 0.9,
    "stages": 4,
    "fisher": chita.Fisher(samples=40, structure="full"),
    "quadratic": chita.Quadratic(ridge=0.1, first_order=1.0, step_size=1.0),
    "validation": 30,
}
STAGED_WORDS = [  # the same on the command line
    *("--sparsity=0.9", "--stages=4", "--samples=40", "--structure=full", "--validation=30"),
    *("--ridge=0.1", "--first-order=1.0", "--step-size=1.0"),
]
TRAINED = {
    "training": chita.Training(epochs=4, events=2, batch=100, rate=0.02),
    "solver": "magnitude",
    "sparsity": 0.8,
    "measure": lambda model: float(next(model.parameters()).double().sum()),
}
LAYERS = {"solver": "wanda", "sparsity": 0.5, "fisher": chita.Fisher(samples=40)}
WAYS = pytest.mark.parametrize("options", [STAGED, TRAINED, LAYERS], ids=["stages", "train", "by"])


def pruned(**options):
    model = chita.load_model("digits-mlp")
    return chita.prune(model, digits()[0].first(300), **options)


def scalars(folder):
    """All values that TensorBoard shows, by name and step."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {(n, e.step): e.value for n in found.Tags()["scalars"] for e in found.Scalars(n)}


def written(folder):
    """How often each value stands in the files."""
    count = Counter()
    for file in sorted(folder.glob("*")):
        for event in EventFileLoader(str(file)).Load():
            count.update((value.tag, event.step) for value in event.summary.value)
    return count


def expected(record):
    """The values of a record, by name and step."""
    found = {}

    def add(kind, step, values):
        known = {name: value for name, value in values.items() if value is not None}
        found.update({(f"{kind}/{name}", step): float(value) for name, value in known.items()})

    for step, stage in enumerate(record.stages, 1):
        names = ("sparsity", "nnz", "objective", "validation_loss", "ridge")
        add("stage", step, {name: getattr(stage, name) for name in names})
        add("stage", step, {f"seconds/{phase}": s for phase, s in stage.seconds.items()})
    for epoch in record.training.epochs if record.training else ():
        values = epoch.model_dump()
        add("epoch", values.pop("epoch"), values)
    solved = [layer.solved for layer in record.layers if layer.solved is not None]
    for step, layer in enumerate(solved, 1):
        names = ("error", "objective", "ridge", "seconds")
        add("layer", step, {name: getattr(layer, name) for name in names})
    return found


def check_same(found, values, *, times=True):
    """Values as they were, in float32; `times`, whether those of the clock too."""
    assert found.keys() == values.keys()
    for key, value in values.items():
        if times or "seconds" not in key[0]:
            assert found[key] == numpy.float32(value), key


@WAYS
def test_the_files_hold_what_the_record_says_and_the_result_is_the_same(tmp_path, options):
    with chita.TensorBoard(tmp_path / "events") as logger:
        result = pruned(**options, logger=logger)
    values = expected(result.record)
    assert {name.partition("/")[0] for name, _ in values} == {
        "stage",
        *(["epoch"] if options is TRAINED else []),
        *(["layer"] if options is LAYERS else []),
    }
    check_same(scalars(tmp_path / "events"), values)
    assert set(written(tmp_path / "events").values()) == {1}
    plain = pruned(**options)
    ours, theirs = result.model.state_dict(), plain.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    check_same(expected(plain.record), values, times=False)


class Killed(BaseException):
    """As a power cut: nothing is done after it."""


def killed_at(monkeypatch, count, *, before):
    """Let a run die before or after it saves a part for the so manieth time."""
    plain, calls = CheckpointFile.save, []

    def save(self, *arguments, **options):
        calls.append(None)
        if before and len(calls) == count:
            raise Killed
        plain(self, *arguments, **options)
        if len(calls) == count:
            raise Killed

    monkeypatch.setattr(CheckpointFile, "save", save)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("before", [True, False])
@WAYS
def test_a_run_that_goes_on_logs_everything_once(tmp_path, monkeypatch, options, count, before):
    kept, events = tmp_path / "kept", tmp_path / "events"
    with monkeypatch.context() as patch:
        killed_at(patch, count, before=before)
        with chita.TensorBoard(events) as logger, pytest.raises(Killed):
            pruned(**options, checkpoint=kept, logger=logger)
    begun = scalars(events)
    assert begun
    with chita.TensorBoard(events, resume=True) as logger:
        result = pruned(**options, checkpoint=chita.Checkpoint(kept, resume=True), logger=logger)
    found = scalars(events)
    assert begun.items() <= found.items()  # none is lost
    assert set(written(events).values()) == {1}
    # What had been logged and not yet kept was done again, and took another time.
    check_same(found, expected(result.record), times=not before)


class Listing:
    """A logger of one's own."""

    def __init__(self):
        self.steps = []

    def log(self, values, step):
        kinds = {name.partition("/")[0] for name in values}
        assert len(kinds) == 1
        self.steps.append((*kinds, step))


@WAYS
def test_a_logger_of_ones_own_is_told_everything_once(tmp_path, monkeypatch, options):
    logger, kept = Listing(), tmp_path / "kept"
    with monkeypatch.context() as patch:
        killed_at(patch, 2, before=False)
        with pytest.raises(Killed):
            pruned(**options, checkpoint=kept, logger=logger)
    begun = [*logger.steps]
    record = pruned(**options, checkpoint=chita.Checkpoint(kept, resume=True), logger=logger).record
    assert 0 < len(begun) < len(logger.steps)
    found = {(name.partition("/")[0], step) for name, step in expected(record)}
    assert sorted(logger.steps) == sorted(found)


def test_pilot_runs_are_not_logged():
    logger = Listing()
    tuned = chita.Quadratic(first_order=1.0, step_size=1.0)
    pruned(**{**STAGED, "quadratic": tuned, "stages": 3}, logger=logger)
    assert logger.steps == [("stage", 1), ("stage", 2), ("stage", 3)]


def test_an_event_whose_epoch_diverged_is_logged(monkeypatch):
    plain = FineTuner.epoch

    def diverging(self, number, largest):
        if number == 1:
            raise Diverged("by hand")
        return plain(self, number, largest)

    monkeypatch.setattr(FineTuner, "epoch", diverging)
    logger = Listing()
    options = {**TRAINED, "training": chita.Training(epochs=2, events=2, batch=100, rate=0.02)}
    assert pruned(**options, logger=logger).record.training.stopped
    assert logger.steps == [("stage", 1), ("epoch", 1), ("stage", 2)]


def test_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["prune", *STAGED_WORDS, "--out", "run", "--tensorboard", "new/events"]
    with monkeypatch.context() as patch:
        killed_at(patch, 2, before=True)
        with pytest.raises(Killed):
            invoke(*arguments)
    shutil.copytree("new", "other")
    done = invoke(*arguments, "--resume")
    assert done.exit_code == 0, done.output
    found = scalars(Path("new/events"))
    stages = json.loads(Path("run/record.json").read_text())["stages"]
    assert [found["stage/validation_loss", i] for i in (1, 2, 3, 4)] == [
        numpy.float32(stage["validation_loss"]) for stage in stages
    ]
    assert set(written(Path("new/events")).values()) == {1}
    arguments[arguments.index("run")] = "again"
    assert "holds the events of an earlier run" in refused(*arguments, idle=True)


def test_another_run_is_not_mixed_in(tmp_path):
    with chita.TensorBoard(tmp_path) as logger:
        logger.log({"stage/objective": 0.1, "stage/seconds/solve": 1.0, "stage/nan": math.nan}, 1)
    with chita.TensorBoard(tmp_path, resume=True) as logger:
        logger.log({"stage/objective": 0.1, "stage/seconds/solve": 2.0, "stage/nan": math.nan}, 1)
        logger.log({"stage/objective": 0.2}, 2)
        with pytest.raises(InputError, match=r"stage/objective of step 2 is 0.2, here 0.3"):
            logger.log({"stage/objective": 0.3}, 2)
    assert set(written(tmp_path).values()) == {1}
    assert scalars(tmp_path)["stage/seconds/solve", 1] == 1.0


def test_folders_that_cannot_be_used_are_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with chita.TensorBoard("used") as logger:
        logger.log({"stage/nnz": 5}, 1)
    for folder, told in (
        ("file", "cannot be a folder of events"),
        ("file/events", "cannot be a folder of events"),
        ("a" * 300, "cannot be a folder of events"),
        ("used", "holds the events of an earlier run. Give another folder, or go on"),
    ):
        with pytest.raises(InputError, match=told):
            chita.TensorBoard(folder)
        given = ("--sparsity", 0.5, "--solver", "magnitude", "--tensorboard", folder)
        message = refused("prune", *given, idle=True)
        assert told in message
        assert "\n" not in message
    chita.TensorBoard("new/events")
    assert not Path("new").exists()  # it is made with the first values


def test_without_tensorboard_one_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tensorboard.backend.event_processing.event_accumulator", None)
    with pytest.raises(InputError, match=r"Install it: pip install tensorboard\.$"):
        chita.TensorBoard("events")
    given = ("--sparsity", 0.5, "--solver", "magnitude", "--tensorboard", "events")
    assert "pip install tensorboard" in refused("prune", *given, idle=True)


def test_what_is_no_logger():
    with pytest.raises(InputError, match=r"`logger` is 'events'; give chita.TensorBoard\(folder\)"):
        pruned(**STAGED, logger="events")
