"""The networks of the papers' benchmarks."""

from __future__ import annotations

import re


def key_map(name: str) -> str | None:
    """Return the name of a tensor of the checkpoints in the wild as these networks have it.

    `module.` and `_layer.` go, masks are dropped.
    """
    return None if name.endswith("_mask") else re.sub(r"(^|\.)((module|_layer)\.)+", r"\1", name)
