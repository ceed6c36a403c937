"""Where text goes: results to standard output, all else to standard error."""

from __future__ import annotations

from rich.console import Console

# Names and messages are shown as they are: `own.nets:lock` is no picture of a lock.
stdout = Console(markup=False, emoji=False)
stderr = Console(stderr=True, markup=False, emoji=False)
