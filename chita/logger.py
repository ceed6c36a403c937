"""Numbers over the time of a run, kept where other programs show them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, final

import numpy

from chita.errors import InputError, OutputError

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
        try:
            from tensorboard.backend.event_processing import event_accumulator  # noqa: PLC0415
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 (both optional)
        except ImportError as error:
            raise InputError(
                f"{folder} needs tensorboard: {error}. Install the extra: pip install "
                "'chita[tensorboard]'."
            ) from None
        self._folder = Path(folder)
        _check_folder(self._folder)
        self._known: dict[tuple[str, int], float] = {}
        if any(self._folder.glob(_FILES)):
            if not resume:
                raise InputError(
                    f"{folder} holds the events of an earlier run. Give another folder, or go on "
                    "with that run by `resume`."
                )
            self._known = _read(event_accumulator, self._folder)
        self._open: Callable[[str], Any] = SummaryWriter
        self._writer: Any = None

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Write values that are not there yet, at once.

        Raises:
            InputError: the folder has another value of that name for this step.
            OutputError: it cannot be written.
        """
        new = {name: v for name, v in values.items() if not self._holds(name, step, v)}
        try:
            if self._writer is None:
                self._writer = self._open(str(self._folder))
            for name, value in new.items():
                self._writer.add_scalar(name, value, step)
                self._known[name, step] = value
            self._writer.flush()
        except OSError as error:
            raise OutputError(
                f"{self._folder} could not be written: {error}. Free space, or choose another "
                "folder."
            ) from None

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
        if _TIMES not in name and not _same(known, value):
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


def _check_folder(folder: Path) -> None:
    """Raise `InputError` where nothing can be written: it is tried, and taken away again."""
    try:
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        for path in missing:
            path.rmdir()
    except (OSError, ValueError) as error:  # a name with a null character is a ValueError
        raise InputError(
            f"{folder} cannot be a folder of events: {error}. Choose another folder."
        ) from None


def _same(one: float, other: float) -> bool:
    """Return whether two values are the same in float32."""
    ours, theirs = numpy.float32(one), numpy.float32(other)
    return bool(ours == theirs) or (math.isnan(one) and math.isnan(other))
