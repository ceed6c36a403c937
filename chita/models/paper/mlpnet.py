"""MLPNet of the pruning papers: 784-40-20-10 without biases; and what networks like it share."""

from __future__ import annotations

from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn


class ThreeLayers(nn.Module):
    """Three linear layers with ReLU between them, of the widths that are given, input first."""

    def __init__(self, *widths: int, bias: bool) -> None:
        super().__init__()
        layers = (nn.Linear(before, after, bias=bias) for before, after in pairwise(widths))
        self.fc1, self.fc2, self.fc3 = layers

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, 10)."""
        x = torch.relu(self.fc1(x.flatten(1)))
        x = torch.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits


@final
class MLPNet(ThreeLayers):
    """Three linear layers with ReLU between them, 32,360 weights, no biases.

    Input (b, 1, 28, 28) or (b, 784), normalised by 0.1307 / 0.3081; output logits (b, 10). Singh &
    Alistarh, WoodFisher (2020), section 5. Its authors end in a log-softmax, which changes
    neither the classes nor the cross-entropy.
    """

    def __init__(self) -> None:
        super().__init__(784, 40, 20, 10, bias=False)
