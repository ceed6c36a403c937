"""How much of the memory of a run its gradients may take."""

from __future__ import annotations

import torch

from chita.layout import Layout
from chita.machine import available_memory
from chita.pruning.config import Memory
from chita.training.together import LIMIT


def rows_room(
    memory: Memory, layout: Layout, count: int, history: int, device: torch.device
) -> int | None:
    """Return the bytes for the gradients of one stage, None for no limit.

    They are those of the run, without what a solver works with, half of all at most, and without
    batches; gradients of earlier stages have as much each.

    Args:
        memory: what was asked for. On accelerators nothing is limited unless it is asked for.
        layout: the weights.
        count: gradients n of a stage.
        history: earlier stages whose gradients are held.
        device: where gradients are held.
    """
    whole = run_bytes(memory)
    if whole is None or (memory.max_memory is None and device.type != "cpu"):
        return None
    solving = min(whole // 2, solving_bytes(layout, count))
    batches = min(whole // 4, int(LIMIT))
    return (whole - solving - batches) // (1 + history)


def run_bytes(memory: Memory) -> int | None:
    """Return what a run may add: by default half of what is free, None where that is not known."""
    free = available_memory() if memory.asked_bytes is None else None
    return memory.asked_bytes if free is None else free // 2


def solving_bytes(layout: Layout, count: int) -> int:
    """Return what a solver works with beside n rows of `count`: vectors of weights and residuals.

    Measured on ResNet-50 with chita: 20 vectors of p numbers, and 5 residuals of every output.
    """
    return 80 * layout.size + 40 * sum(1 for _ in layout.outputs) * count
