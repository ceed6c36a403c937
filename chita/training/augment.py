"""Images shifted and mirrored, drawn again in every epoch."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from chita.errors import InputError
from chita.losses.outputs import split

_SHIFT = 8  # the part of a side by which an image moves at most


def crop_flip(batch: Any) -> Any:
    """Return a batch (images (N, C, H, W), targets) with its images shifted and mirrored.

    Each moves by up to H/8 and W/8 pixels, zeros moving in, and every other one is mirrored from
    left to right; drawn by torch's own generator of the CPU.

    Raises `InputError` when inputs are no images.
    """
    images, targets = split(batch, labelled=False)
    if not isinstance(images, Tensor) or images.ndim != 4:
        raise InputError(
            "augmentation crop-flip needs images, inputs (N, C, H, W). Leave augmentation out."
        )
    n, _, height, width = images.shape
    up, left = height // _SHIFT, width // _SHIFT
    padded = nn.functional.pad(images, (left, left, up, up))
    top = torch.randint(2 * up + 1, (n, 1), device="cpu") + torch.arange(height, device="cpu")
    side = torch.randint(2 * left + 1, (n, 1), device="cpu") + torch.arange(width, device="cpu")
    mirrored = torch.rand(n, 1, dtype=torch.float32, device="cpu") < 0.5
    side = torch.where(mirrored, side.flip(1), side).to(images.device)
    top = top.to(images.device)
    rows = padded.gather(2, top[:, None, :, None].expand(-1, images.shape[1], -1, padded.shape[3]))
    moved = rows.gather(3, side[:, None, None, :].expand(-1, images.shape[1], height, -1))
    return moved, targets
