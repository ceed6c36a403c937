"""Every exception that `chita` raises on purpose.

Each message says what was given, what is accepted and what to do. The command line prints the
message alone and exits with code 2.
"""

from __future__ import annotations


class ChitaError(Exception):
    """Base of all errors raised on purpose."""


class InputError(ChitaError, ValueError):
    """An argument, a model or data that cannot be used as given."""


class CheckpointError(ChitaError, ValueError):
    """A weights file that cannot be read, or that does not fit the network."""


class NumericalError(ChitaError, ArithmeticError):
    """A computation that cannot go on: a singular system, a value that is not finite."""


class OutputError(ChitaError, OSError):
    """A result that cannot be written where it was asked for."""
