"""MLPNet of the pruning papers: 784-40-20-10 without biases."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn


@final
class MLPNet(nn.Module):
    """Three linear layers with ReLU between them, 32,360 weights, no biases.

    Input (b, 1, 28, 28) or (b, 784), normalised by 0.1307 / 0.3081; output logits (b, 10). Singh &
    Alistarh, WoodFisher (2020), section 5. Its authors end in a log-softmax, which changes
    neither the classes nor the cross-entropy.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 40, bias=False)
        self.fc2 = nn.Linear(40, 20, bias=False)
        self.fc3 = nn.Linear(20, 10, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, 10)."""
        x = torch.relu(self.fc1(x.flatten(1)))
        x = torch.relu(self.fc2(x))
        logits: Tensor = self.fc3(x)
        return logits
