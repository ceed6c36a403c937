"""Masks in the Trainer of Lightning."""

from __future__ import annotations

from typing import final

import lightning
from torch import nn

from chita.errors import InputError
from chita.masks.enforce import Enforcer
from chita.masks.fit import Masks


@final
class LightningKeepZeros(lightning.Callback):
    """The zeros of a pruned network, kept through `lightning.Trainer.fit`.

    Use: `callbacks=[LightningKeepZeros(run, ...)]`.

    Args:
        masks: named masks, or a run folder or file that holds them.
        network: name of the pruned network in the LightningModule, such as "net"; "" where the
            masks name the weights as the LightningModule does, or fit only one network in it.
    """

    def __init__(self, masks: Masks, *, network: str = "") -> None:
        self._masks, self._name = masks, network
        self._enforcer: Enforcer | None = None

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Set the zeros and attach to the optimizers that train them.

        Raises `InputError` when the masks do not fit, or no optimizer trains the weights.
        """
        self._enforcer = Enforcer(self._network(pl_module), self._masks)
        faults = []
        for optimizer in trainer.optimizers:
            try:
                self._enforcer.attach(optimizer)
            except InputError as error:  # of another part of the network
                faults.append(error)
        if len(faults) == len(trainer.optimizers):
            raise faults[0] if faults else InputError("There is no optimizer to attach to.")

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        """Detach."""
        if self._enforcer is not None:
            self._enforcer.detach()

    def _network(self, pl_module: lightning.LightningModule) -> nn.Module:
        try:
            network: nn.Module = pl_module.get_submodule(self._name)
        except AttributeError:
            names = [name for name, _ in pl_module.named_children()]
            raise InputError(
                f"The LightningModule has no {self._name!r}. Give network= one of: "
                f"{', '.join(names)}."
            ) from None
        return network
