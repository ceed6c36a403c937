"""Masks in the Trainer of Hugging Face's transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from transformers import TrainerCallback

from chita.masks.enforce import Enforcer
from chita.masks.fit import Masks
from chita.masks.storage import MASKS, save_masks


@final
class TrainerKeepZeros(TrainerCallback):
    """The zeros of a pruned network, kept through `transformers.Trainer.train`.

    Use: `callbacks=[TrainerKeepZeros(run)]`.

    Every checkpoint that the Trainer writes gets a `masks.safetensors`, so that `chita verify`
    can be asked of it.

    Args:
        masks: named masks, or a run folder or file that holds them.
    """

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self._enforcer: Enforcer | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Set the zeros and attach to the optimizer.

        Raises `InputError` when the masks do not fit, or the network is wrapped by adapters.
        """
        self._enforcer = Enforcer(parts["model"], self._masks)
        self._enforcer.attach(parts["optimizer"])

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the masks beside the checkpoint."""
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if self._enforcer is not None and state.is_world_process_zero and folder.is_dir():
            save_masks(self._enforcer.masks, folder / MASKS)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Detach."""
        if self._enforcer is not None:
            self._enforcer.detach()
