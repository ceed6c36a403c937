"""MobileNetV1 of the pruning papers, for ImageNet."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

_WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)


@final
class MobileNetV1(nn.Module):
    """A convolution, then thirteen pairs of a depthwise and a pointwise one; 4,209,088 weights.

    These are the prunable ones. Input (b, 3, 224, 224), output logits (b, 1000). Howard et al.
    (2017), Table 1, width 1.
    Tensors have the names of the checkpoints in the wild: `model.3.0.weight`, `fc.weight`.
    """

    def __init__(self) -> None:
        super().__init__()
        channels = 32
        blocks = [nn.Sequential(*_layer(nn.Conv2d(3, channels, 3, 2, 1, bias=False)))]
        for width, stride in zip(_WIDTHS, _STRIDES, strict=True):
            depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
            pointwise = nn.Conv2d(channels, width, 1, bias=False)
            blocks.append(nn.Sequential(*_layer(depthwise), *_layer(pointwise)))
            channels = width
        self.model = nn.Sequential(*blocks)
        self.fc = nn.Linear(channels, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (b, 1000)."""
        features: Tensor = self.model(x)
        logits: Tensor = self.fc(features.mean((2, 3)))
        return logits


def _layer(convolution: nn.Conv2d) -> tuple[nn.Module, ...]:
    return convolution, nn.BatchNorm2d(convolution.out_channels), nn.ReLU(inplace=True)
