"""Numbers over the time of a run, kept where other programs show them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, final

import numpy

from chita.errors import InputError, OutputError, failures_as
from chita.files import draft_beside
from chita.imports import optional

_FILES = "events.out.tfevents.*"
_TIMES = "seconds"  # in the names of what differs where a step is done again


class Logger(Protocol):
    """Receiver of the numbers of a run as it goes on.

    >>> class Printing:
    ...     def log(self, values, step):
    ...         print(step, dict(values))
    >>> logger: Logger = Printing()
    >>> logger.log({"stage/objective": -0.5}, 1)
    1 {'stage/objective': -0.5}
    """

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log values, by name, of a step: the first, second ... of its kind.

        The kind is the name up to the first slash: `stage/` objective, `epoch/` loss, `layer/`
        error.
        """


@final
class TensorBoard:
    """Logger to a folder, for `tensorboard --logdir FOLDER`; needs the extra tensorboard.

    Args:
        folder: made with the first values. Without `resume` it must hold no events yet.
        resume: go on with the events of the same run. A value that is there already is not written
            again: a run that was stopped between logging a stage and keeping it repeats that stage.

    Values are stored in float32, as the files of TensorBoard have them.

    Raises:
        InputError: there is no tensorboard, or the folder cannot be written or holds the events of
            another run.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder, TensorBoard(folder) as board:
    ...     board.log({"stage/objective": 0.5}, step=1)
    ...     len(list(Path(folder).iterdir()))
    1
    """

    def __init__(self, folder: str | Path, *, resume: bool = False) -> None:
        reading = "tensorboard.backend.event_processing.event_accumulator"
        events = optional(reading, extra="tensorboard", what=str(folder))
        writing = optional("torch.utils.tensorboard", extra="tensorboard", what=str(folder))
        self._folder = Path(folder)
        what = f"{folder} cannot be a folder of events"
        tried = draft_beside(self._folder / "events")
        with failures_as(InputError, what, "Choose another folder."), tried:
            pass  # it can be made, and is taken away again
        self._known: dict[tuple[str, int], float] = {}
        if any(self._folder.glob(_FILES)):
            if not resume:
                raise InputError(
                    f"{folder} holds the events of an earlier run. Give another folder, or go on "
                    "with that run by `resume`."
                )
            self._known = _read(events, self._folder)
        self._open: Any = writing.SummaryWriter
        self._writer: Any = None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write values that are not there yet, at once.

        Raises:
            InputError: the folder has another value of that name for this step.
            OutputError: it cannot be written.
        """
        new = {name: v for name, v in values.items() if not self._holds(name, step, v)}
        ask = "Free space, or choose another folder."
        with failures_as(OutputError, f"{self._folder} could not be written", ask, of=OSError):
            if self._writer is None:
                self._writer = self._open(str(self._folder))
            for name, value in new.items():
                self._writer.add_scalar(name, value, step)
                self._known[name, step] = value
            self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def __enter__(self) -> TensorBoard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _holds(self, name: str, step: int, value: float) -> bool:
        known = self._known.get((name, step))
        if known is None:
            return False
        there, here = numpy.float32(known), numpy.float32(value)  # as the files have them
        if _TIMES not in name and not numpy.array_equal(there, here, equal_nan=True):
            raise InputError(
                f"{self._folder} holds another run: there {name} of step {step} is {known:.6g}, "
                f"here {value:.6g}. Give each run a folder of its own."
            )
        return True


def check_logger(logger: object) -> None:
    """Raise `InputError` for what is neither None nor a `Logger`."""
    if logger is not None and not callable(getattr(logger, "log", None)):
        raise InputError(
            f"`logger` is {logger!r}; give chita.TensorBoard(folder), or an object with a method "
            "log(values, step)."
        )


def _read(events: Any, folder: Path) -> dict[tuple[str, int], float]:
    """Return the values of a folder by name and step, read by `event_accumulator`."""
    everything = {events.SCALARS: 0}
    found = events.EventAccumulator(str(folder), size_guidance=everything).Reload()
    tags = found.Tags()[events.SCALARS]
    return {(tag, e.step): float(e.value) for tag in tags for e in found.Scalars(tag)}
