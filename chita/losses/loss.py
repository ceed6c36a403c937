"""The loss that a network is trained for, and the measure shown to users."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from chita.errors import InputError


@final
@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure summed over `count` units (samples, pixels): its mean is `total` / `count`.

    `name` says what is measured, with its unit. With `log`, what is shown is e to that mean.
    """

    name: str
    total: float
    count: int
    log: bool = False


class Loss(ABC):
    """The mean loss of a network on a batch of samples.

    Row gradients are those of `mean`; all the rest serves checks and reports.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The name on the command line, or that of the user's function."""

    @abstractmethod
    def mean(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the mean loss over the samples of a batch, a scalar with gradient."""

    def run(self, model: nn.Module, batch: Any) -> None:
        """Run the network as `mean` would; where the loss allows, on a batch without targets."""
        self.mean(model, batch)

    @abstractmethod
    def measure(self, model: nn.Module, batch: Any) -> Measure:
        """Return how good the network is on a batch."""

    def check(self, model: nn.Module, batch: Any, whole: Any) -> None:  # noqa: B027 (not all have one)
        """Raise `InputError` when the loss would fail on a batch, or take it for what it is not.

        `batch` is the first row of `whole`; the network is run on it only.
        """

    def relabelled(self, model: nn.Module, batch: Any, generator: torch.Generator) -> Any:
        """Return the batch with targets drawn from the network's own predictions.

        Rows then give the true Fisher (Kunstner et al., 2019), the data's labels the empirical.
        Raises `InputError` where the loss defines no distribution.
        """
        raise InputError(
            f'labels="model" needs a loss that is a likelihood (cross_entropy, nll, mse); this is '
            f'{self.name}, whose distribution is not known. Use labels="data".'
        )
