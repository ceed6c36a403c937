"""ResNet20 of the pruning papers, for 32 x 32 images in ten classes."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from chita.image_format import ImageFormat

CIFAR10 = ImageFormat(size=32, mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))


def shortcut(channels: int, width: int, stride: int) -> nn.Sequential | None:
    """Return a 1 x 1 convolution beside a block, None where sizes stay."""
    if stride == 1 and channels == width:
        return None
    convolution = nn.Conv2d(channels, width, 1, stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width))


class _Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is 1 x 1 where sizes change."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut(channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Features (b, width, h / stride, w / stride)."""
        beside = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(x)) + beside)


@final
class ResNet20(nn.Module):
    """Three groups of three blocks of 16, 32 and 64 channels; 270,896 prunable weights.

    Input (b, 3, 32, 32), output logits (b, 10). He et al. (2016), section 4.2, with 1 x 1
    convolutions in the shortcuts (option B), whose 2,560 weights the papers leave out (268,336).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(_Block(16, 16, 1) for _ in range(3)))
        self.layer2 = nn.Sequential(_Block(16, 32, 2), *(_Block(32, 32, 1) for _ in range(2)))
        self.layer3 = nn.Sequential(_Block(32, 64, 2), *(_Block(64, 64, 1) for _ in range(2)))
        self.fc = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, 10)."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits
