"""Weights used twice, transposed, or computed from others."""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from tests.families.family import SAMPLES, Family, classified, normal, seeded


class Siamese(nn.Module):
    """One trunk for two images. The distance (b,) of their embeddings."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 12, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 24, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(24 * 4, 16),
        )

    def forward(self, first, second):
        difference = self.trunk(first) - self.trunk(second)
        return (difference.square().sum(1) + 1e-6).sqrt()  # smooth where the images agree


class TiedAutoencoder(nn.Module):
    """The decoder's weight is the encoder's, transposed; only its bias is its own."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(64, 24)
        self.decoder_bias = nn.Parameter(torch.zeros(64))

    def forward(self, x):
        code = torch.tanh(self.encoder(x))
        return functional.linear(code, self.encoder.weight.T, self.decoder_bias)


class WeightNormed(nn.Module):
    """The weight of `hidden` is computed from a length and a direction."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.hidden = parametrizations.weight_norm(nn.Conv2d(8, 16, 3, stride=2, padding=1))
        self.fc = nn.Linear(16, 10)

    def forward(self, x):
        x = torch.relu(self.hidden(torch.relu(self.conv(x))))
        return self.fc(x.mean((2, 3)))


def _pairs():
    """Two images each, and how far apart they are per pixel."""
    first, second = normal(SAMPLES, 1, 8, 8), normal(SAMPLES, 1, 8, 8, seed=1)
    return (first, second), (first - second).square().mean((1, 2, 3)).sqrt()


def _reconstructed():
    """Points near a plane of 8 dimensions, (24, 64), as inputs and targets."""
    points = normal(SAMPLES, 8) @ normal(8, 64, seed=1) / 8**0.5
    points += 0.1 * normal(SAMPLES, 64, seed=2)
    return points, points


FAMILIES = {
    "siamese": Family(seeded(Siamese), _pairs, "mse"),
    "tied-autoencoder": Family(seeded(TiedAutoencoder), _reconstructed, "mse"),
    "weight-norm": Family(seeded(WeightNormed), classified((3, 16, 16), 10)),
}
