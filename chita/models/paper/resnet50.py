"""ResNet-50 of the pruning papers, for ImageNet."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from chita.models.paper.resnet20 import shortcut


class _Bottleneck(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions beside a shortcut, which is one too where sizes change.

    The stride lies in the 3 x 3 convolution, as in the checkpoints in use.
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.downsample = shortcut(channels, out, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Features (b, 4 width, h / stride, w / stride)."""
        beside = x if self.downsample is None else self.downsample(x)
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return torch.relu(self.bn3(self.conv3(x)) + beside)


@final
class ResNet50(nn.Module):
    """Groups of 3, 4, 6 and 3 bottlenecks; 25,502,912 prunable weights.

    Input (b, 3, 224, 224), output logits (b, 1000). He et al. (2016), Table 1. Tensors have the
    names of torchvision's, so that its checkpoints load.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = _group(64, 64, 3, 1)
        self.layer2 = _group(256, 128, 4, 2)
        self.layer3 = _group(512, 256, 6, 2)
        self.layer4 = _group(1024, 512, 3, 2)
        self.fc = nn.Linear(2048, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, 1000)."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def _group(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    rest = (_Bottleneck(4 * width, width, 1) for _ in range(blocks - 1))
    return nn.Sequential(_Bottleneck(channels, width, stride), *rest)
