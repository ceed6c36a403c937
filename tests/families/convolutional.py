"""Dense convolutions: plain, residual, concatenated, and with a transposed way back up."""

import torch
from torch import nn
from torch.nn import functional

from tests.families.family import Family, classified, seeded


class VGG(nn.Module):
    """Pairs of 3 x 3 convolutions with biases and without norms, max pooling, two linear layers."""

    def __init__(self):
        super().__init__()
        layers, channels = [], 3
        for width in (8, 16, 24):
            for _ in range(2):
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(24 * 4, 32), nn.ReLU(), nn.Linear(32, 10))
        for module in self.features:
            if isinstance(module, nn.Conv2d):  # without norms the signal would fade with depth
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, x):
        return self.classifier(self.features(x).flatten(1))


class ResidualBlock(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Identity()
        if stride > 1 or channels != width:
            conv = nn.Conv2d(channels, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet(nn.Module):
    """A stem, four basic blocks of which two halve the image, global mean pooling."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)
        )
        self.layer1 = ResidualBlock(8, 8, 1)
        self.layer2 = nn.Sequential(ResidualBlock(8, 16, 2), ResidualBlock(16, 16, 1))
        self.layer3 = ResidualBlock(16, 24, 2)
        self.fc = nn.Linear(24, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.stem(x))))
        return self.fc(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class DenseLayer(nn.Module):
    """Bottleneck and 3 x 3 convolution, each after its norm; the output joins the input."""

    def __init__(self, channels, growth):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv1 = nn.Conv2d(channels, 2 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * growth)
        self.conv2 = nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x):
        y = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(y)))], dim=1)


class DenseNet(nn.Module):
    """Two dense blocks of three layers and a transition that halves channels and image."""

    def __init__(self, growth=6):
        super().__init__()
        self.stem = nn.Conv2d(3, 14, 3, padding=1, bias=False)
        self.block1 = nn.Sequential(*(DenseLayer(14 + i * growth, growth) for i in range(3)))
        self.transition = nn.Sequential(
            nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 16, 1, bias=False), nn.AvgPool2d(2)
        )
        self.block2 = nn.Sequential(*(DenseLayer(16 + i * growth, growth) for i in range(3)))
        self.norm = nn.BatchNorm2d(34)
        self.classifier = nn.Linear(34, 10)

    def forward(self, x):
        x = self.block2(self.transition(self.block1(self.stem(x))))
        return self.classifier(torch.relu(self.norm(x)).mean((2, 3)))


def _double_conv(channels, width):
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """Two levels down and up with skips. Logits (b, classes, h, w)."""

    def __init__(self, classes=4):
        super().__init__()
        self.down1 = _double_conv(3, 6)
        self.down2 = _double_conv(6, 12)
        self.bottom = _double_conv(12, 20)
        self.up2 = nn.ConvTranspose2d(20, 12, 2, stride=2)
        self.merge2 = _double_conv(24, 12)
        self.up1 = nn.ConvTranspose2d(12, 6, 2, stride=2)
        self.merge1 = _double_conv(12, 6)
        self.head = nn.Conv2d(6, classes, 1)

    def forward(self, x):
        fine = self.down1(x)
        coarse = self.down2(functional.max_pool2d(fine, 2))
        y = self.up2(self.bottom(functional.max_pool2d(coarse, 2)))
        y = self.up1(self.merge2(torch.cat([coarse, y], dim=1)))
        return self.head(self.merge1(torch.cat([fine, y], dim=1)))


FAMILIES = {
    "vgg": Family(seeded(VGG), classified((3, 16, 16), 10)),
    "resnet": Family(seeded(ResNet), classified((3, 16, 16), 10)),
    "densenet": Family(seeded(DenseNet), classified((3, 16, 16), 10)),
    "unet": Family(seeded(UNet), classified((3, 16, 16), 4, target_shape=(16, 16))),
}
