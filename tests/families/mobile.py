"""Depthwise convolutions: separable, inverted residual, with squeeze and excitation."""

import torch
from torch import nn

from tests.families.family import Family, classified, seeded


def _conv_norm(channels, width, kernel, *, stride=1, groups=1, activation=nn.ReLU6):
    conv = nn.Conv2d(
        channels, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False
    )
    return nn.Sequential(conv, nn.BatchNorm2d(width), activation())


class DepthwiseSeparable(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.depthwise = _conv_norm(
            channels, channels, 3, stride=stride, groups=channels, activation=nn.ReLU
        )
        self.pointwise = _conv_norm(channels, width, 1, activation=nn.ReLU)

    def forward(self, x):
        return self.pointwise(self.depthwise(x))


class MobileNetV1(nn.Module):
    """A stem, four depthwise separable convolutions, global mean pooling."""

    def __init__(self):
        super().__init__()
        self.stem = _conv_norm(3, 16, 3, activation=nn.ReLU)
        self.blocks = nn.Sequential(
            DepthwiseSeparable(16, 24, 2),
            DepthwiseSeparable(24, 32, 1),
            DepthwiseSeparable(32, 48, 2),
            DepthwiseSeparable(48, 64, 1),
        )
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        return self.fc(self.blocks(self.stem(x)).mean((2, 3)))


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, linear projection; a shortcut where shapes agree."""

    def __init__(self, channels, width, stride, expansion):
        super().__init__()
        hidden = channels * expansion
        self.expand = _conv_norm(channels, hidden, 1) if expansion > 1 else nn.Identity()
        self.depthwise = _conv_norm(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = _conv_norm(hidden, width, 1, activation=nn.Identity)
        self.residual = stride == 1 and channels == width

    def forward(self, x):
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """A stem, five inverted residuals, a 1 x 1 convolution before the linear layer."""

    def __init__(self):
        super().__init__()
        self.stem = _conv_norm(3, 12, 3)
        self.blocks = nn.Sequential(
            InvertedResidual(12, 8, 1, expansion=1),
            InvertedResidual(8, 16, 2, expansion=4),
            InvertedResidual(16, 16, 1, expansion=4),
            InvertedResidual(16, 24, 2, expansion=4),
            InvertedResidual(24, 24, 1, expansion=4),
        )
        self.last = _conv_norm(24, 48, 1)
        self.fc = nn.Linear(48, 10)

    def forward(self, x):
        return self.fc(self.last(self.blocks(self.stem(x))).mean((2, 3)))


class SqueezeExcite(nn.Module):
    """Scale every channel by what all channels are on average."""

    def __init__(self, channels, squeezed):
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.act = nn.SiLU()

    def forward(self, x):
        scale = self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * torch.sigmoid(scale)


class MBConv(nn.Module):
    """An inverted residual with squeeze and excitation and SiLU."""

    def __init__(self, channels, width, kernel, stride):
        super().__init__()
        hidden = 3 * channels
        self.expand = _conv_norm(channels, hidden, 1, activation=nn.SiLU)
        self.depthwise = _conv_norm(
            hidden, hidden, kernel, stride=stride, groups=hidden, activation=nn.SiLU
        )
        self.excite = SqueezeExcite(hidden, channels // 2)
        self.project = _conv_norm(hidden, width, 1, activation=nn.Identity)
        self.residual = stride == 1 and channels == width

    def forward(self, x):
        y = self.project(self.excite(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class EfficientNet(nn.Module):
    """A stem, four MBConv blocks with 3 x 3 and 5 x 5 kernels, a 1 x 1 convolution."""

    def __init__(self):
        super().__init__()
        self.stem = _conv_norm(3, 8, 3, activation=nn.SiLU)
        self.blocks = nn.Sequential(
            MBConv(8, 8, kernel=3, stride=1),
            MBConv(8, 16, kernel=5, stride=2),
            MBConv(16, 16, kernel=3, stride=1),
            MBConv(16, 24, kernel=5, stride=2),
        )
        self.last = _conv_norm(24, 48, 1, activation=nn.SiLU)
        self.classifier = nn.Linear(48, 10)

    def forward(self, x):
        return self.classifier(self.last(self.blocks(self.stem(x))).mean((2, 3)))


FAMILIES = {
    "mobilenet-v1": Family(seeded(MobileNetV1), classified((3, 16, 16), 10)),
    "mobilenet-v2": Family(seeded(MobileNetV2), classified((3, 16, 16), 10)),
    "efficientnet": Family(seeded(EfficientNet), classified((3, 16, 16), 10)),
}
