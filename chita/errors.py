"""Every exception that `chita` raises on purpose.

Each message says what was given, what is accepted and what to do. The command line prints the
message alone and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class ChitaError(Exception):
    """Base of all errors raised on purpose.

    >>> issubclass(InputError, ChitaError)
    True
    """


class InputError(ChitaError, ValueError):
    """An argument, a model or data that cannot be used as given.

    >>> import chita
    >>> try:
    ...     chita.Nonzeros(0)
    ... except chita.InputError as error:
    ...     print(str(error).partition(";")[0])
    `nnz` is 0
    """


class CheckpointError(ChitaError, ValueError):
    """A weights file that cannot be read, or that does not fit the network.

    >>> import chita
    >>> try:
    ...     chita.load("absent.safetensors")
    ... except chita.CheckpointError:
    ...     print("not read")
    not read
    """


class NumericalError(ChitaError, ArithmeticError):
    """A computation that cannot go on: a singular system, a value that is not finite.

    >>> issubclass(NumericalError, ArithmeticError)
    True
    """


class OutputError(ChitaError, OSError):
    """A result that cannot be written where it was asked for.

    >>> issubclass(OutputError, OSError)
    True
    """


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, of which some have many or none."""
    return str(error).partition("\n")[0]


@contextmanager
def failures_as(
    kind: type[ChitaError],
    what: str,
    way_out: str,
    *,
    of: type[Exception] | tuple[type[Exception], ...] = Exception,
    why: Callable[[Exception], str] = str,
) -> Iterator[None]:
    """Let failures in a block become an error of one kind, "`what`: `why`. `way_out`".

    Files, other libraries and code of users may raise anything; `of` narrows it. Errors that were
    raised on purpose stay as they are.

    >>> with failures_as(InputError, "5x is no number", "Leave x out.", why=repr):
    ...     raise ValueError("x")
    Traceback (most recent call last):
        ...
    chita.errors.InputError: 5x is no number: ValueError('x'). Leave x out.
    """
    try:
        yield
    except ChitaError:
        raise
    except of as error:
        memory = isinstance(error, MemoryError)  # which says nothing of itself
        reason = "it needs more memory than there is" if memory else why(error).rstrip(". ")
        raise kind(f"{what}: {reason}. {way_out}") from error
