"""Names: of tensors without marks of wrappers, and messages about those that are not known."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

_MOST = 3  # names that are guessed


def guessed(name: str, known: Iterable[str]) -> str:
    """Return a question with the nearest known names and a space behind it, empty without any.

    Near are also those that begin with the name, which may be much longer.

    >>> guessed("mag", ["chita", "magnitude"])
    'Did you mean magnitude? '
    """
    known = list(known)
    begun = [other for other in known if len(name) > 1 and other.startswith(name)]
    close = get_close_matches(name, known) or begun[:_MOST]
    return f"Did you mean {' or '.join(close)}? " if close else ""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest known names first, then all of them.

    >>> nearest("magnitud", ["chita", "magnitude"])
    'Did you mean magnitude? Known: chita, magnitude.'
    """
    known = list(known)
    return f"{guessed(name, known)}Known: {', '.join(known)}."


def plain_name(name: str) -> str:
    """Return a tensor's name without the marks of compiled modules inside a network.

    >>> plain_name("body._orig_mod.fc.weight")
    'body.fc.weight'
    """
    return re.sub(r"(^|\.)_orig_mod\.", r"\1", name)
