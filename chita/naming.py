"""Messages about names that are not known."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest known names first, then all of them.

    >>> nearest("magnitud", ["chita", "magnitude"])
    'Did you mean magnitude? Known: chita, magnitude.'
    """
    known = list(known)
    close = get_close_matches(name, known)
    hint = f"Did you mean {' or '.join(close)}? " if close else ""
    return f"{hint}Known: {', '.join(known)}."
