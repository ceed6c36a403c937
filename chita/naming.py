"""Names: of tensors without marks of wrappers, and messages about those that are not known."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches

from chita.errors import CheckpointError

_MOST = 3  # names that are guessed
_MARKS = re.compile(r"(^|\.)((_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.)+")


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


def listed(items: Sequence[str], most: int, separator: str = ", ") -> str:
    """Return the first items of a message, and how many more there are.

    >>> listed(["a", "b", "c"], 2), listed(["a is x", "b is y"], 1, "; ")
    ('a, b and 1 more', 'a is x; and 1 more')
    """
    shown = separator.join(items[:most])
    if len(items) <= most:
        return shown
    return f"{shown}{separator.rstrip(', ')} and {len(items) - most} more"


def plain_name(name: str) -> str:
    """Return a tensor's name without the marks of wrappers inside a network.

    Those are what `torch.compile`, `checkpoint_wrapper` and FSDP put around a module.

    >>> plain_name("body._orig_mod.fc.weight")
    'body.fc.weight'
    """
    return _MARKS.sub(r"\1", name)


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Return names of tensors by their plain names; those that would be one stay as they are.

    >>> plain_names(["a._orig_mod.w", "b._orig_mod.w", "b.w"])
    {'a.w': 'a._orig_mod.w', 'b._orig_mod.w': 'b._orig_mod.w', 'b.w': 'b.w'}
    """
    names = list(names)
    count = Counter(map(plain_name, names))
    return {plain_name(name) if count[plain_name(name)] == 1 else name: name for name in names}


def prefixes_between(names: Iterable[str], known: Collection[str]) -> list[tuple[str, str]]:
    """Return prefixes to take off names and to put before them, so that all are known.

    Prefixes are of whole words, and one of the two, or both, are empty.

    >>> prefixes_between(["fc.weight"], ["net.fc.weight", "net.fc.bias"])
    [('', 'net.')]
    """
    names = list(names)
    if all(name in known for name in names):
        return [("", "")]
    first = names[0]
    own = [first[: dot.end()] for dot in re.finditer(r"\.", first)]
    others = {name.removesuffix(first) for name in known if name.endswith(f".{first}")}
    return [
        (off, on)
        for off, on in [*((off, "") for off in own), *(("", on) for on in sorted(others))]
        if all(name.startswith(off) and on + name.removeprefix(off) in known for name in names)
    ]


def prefix_between(names: Iterable[str], known: Collection[str]) -> tuple[str, str]:
    """Return the one entry of `prefixes_between`, two empty texts for want of any.

    Raises `CheckpointError` where there are several.
    """
    found = prefixes_between(names, known)
    if len(found) > 1:
        raise CheckpointError(
            "There are tensors of these names under several prefixes: "
            f"{', '.join(off or on for off, on in found)}. Give one of these networks by itself."
        )
    return found[0] if found else ("", "")
