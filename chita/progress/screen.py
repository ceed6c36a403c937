"""Where text goes: results to standard output, all else to standard error."""

from __future__ import annotations

import os

from rich.console import Console, ConsoleDimensions

_UNFOLDED = 10_000


class Screen(Console):
    """A console that folds lines only where someone looks at a screen, or COLUMNS asks for it.

    In a pipe or a file names and numbers stay whole.
    """

    @property  # type: ignore[misc]  # that it can be set, too, is not needed
    def size(self) -> ConsoleDimensions:
        """The size of the terminal, or room for everything."""
        if self.is_terminal or "COLUMNS" in os.environ:
            return super().size
        return ConsoleDimensions(_UNFOLDED, super().size.height)


# Names and messages are shown as they are: `own.nets:lock` is no picture of a lock.
stdout = Screen(markup=False, emoji=False)
stderr = Screen(stderr=True, markup=False, emoji=False)
