"""What a family is, and what all of them share: seeds, norms, random data."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

SAMPLES = 24


@dataclass(frozen=True)
class Family:
    """One network with its data.

    Fields: `build`, a fresh network in eval mode, the same at every call; `data`, one batch, the
    same at every call; `loss`, None where the batch tells it, a name, or (model, batch) to a mean.
    """

    build: Callable[[], nn.Module]
    data: Callable[[], Any]
    loss: Any = None


def seeded(build):
    """A function that builds the same network at every call, and leaves the global seed alone."""
    return partial(_build, build)


def _build(build):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
        _settle_norms(model)
    return model.eval()


def _settle_norms(model):
    """Give every BatchNorm values as if trained: at 0 and 1 a lost buffer would go unseen.

    Outputs of a layer with PyTorch's initial weights have a variance of 1/6 to 1/3.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.15, 0.35)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, mean=0.2, std=0.1)


def normal(*shape, seed=0):
    """Standard normal values from a generator of their own."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def integers(high, *shape, seed=1):
    """Uniform integers below `high` from a generator of their own."""
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(seed))


def classified(shape, classes, target_shape=()):
    """A function that returns inputs (24, *shape) and classes (24, *target_shape)."""

    def batch():
        return normal(SAMPLES, *shape), integers(classes, SAMPLES, *target_shape)

    return batch
