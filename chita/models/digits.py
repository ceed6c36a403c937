"""Two small networks for the 8 x 8 digits, shipped trained (`reproduce/train_digits.py`)."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from chita.models.paper.mlpnet import ThreeLayers


@final
class DigitsMLP(ThreeLayers):
    """64-128-64-10 with ReLU. Input (b, 1, 8, 8), output logits (b, 10)."""

    def __init__(self) -> None:
        super().__init__(64, 128, 64, 10, bias=True)


@final
class DigitsCNN(nn.Module):
    """Three 3 x 3 convolutions with BatchNorm and ReLU, mean pooling, one linear layer.

    Input (b, 1, 8, 8), output logits (b, 10).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1, stride=2, bias=False)
        self.bn2 = nn.BatchNorm2d(32)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(64)
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, 10)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        x = torch.relu(self.bn3(self.conv3(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits
