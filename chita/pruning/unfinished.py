"""The finished part of a run that may be killed: one file, replaced whole whenever it grows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from chita.errors import InputError, OutputError
from chita.files import replacing
from chita.models.mode import state_of
from chita.pruning.config import Checkpoint

_FORMAT = "chita-unfinished-4"
_MASK, _STATE, _OTHERS = "mask", "state.", "others."


@final
@dataclass(frozen=True, kw_only=True)
class Kept:
    """What was kept: a `mask` (p,), plain data `done`, and `others`, named tensors."""

    mask: Tensor
    done: Any
    others: dict[str, Tensor]


@final
class Unfinished:
    """Where a run keeps what it came to so far, and finds it again.

    Args:
        checkpoint: the file, which exists only while a run is unfinished, and whether to go on
            from it; if not, an existing file is an error.
        settings: all that decides on the result. A run goes on under the same ones only.
        network: as it is before the run.

    Raises:
        InputError: the file is there and not to be gone on from, is no such file, or belongs to
            other settings or another network.
    """

    def __init__(
        self, checkpoint: Checkpoint, *, settings: dict[str, Any], network: nn.Module
    ) -> None:
        self._path = path = checkpoint.path
        self._settings = json.loads(json.dumps({**settings, "network": _digest(network)}))
        self._network = network
        self._found: dict[str, str] | None = None
        if path.exists():
            self._found = self._read()
            if not checkpoint.resume:
                raise InputError(
                    f"{path} holds the finished part of an earlier run. Go on from there with "
                    "`resume`, or delete it."
                )
            self._check_settings()

    def restored(self) -> Kept | None:
        """Return what was kept, with the network as it was then; None where nothing was."""
        if self._found is None:
            return None
        with safe_open(self._path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        mask = state.pop(_MASK)
        device = next(self._network.parameters()).device
        found, others = (
            {n.removeprefix(kind): t for n, t in state.items() if n.startswith(kind)}
            for kind in (_STATE, _OTHERS)
        )
        self._network.load_state_dict(found, strict=False)  # extra state is no tensor
        return Kept(mask=mask.to(device), done=self._done(), others=others)

    def keep(self, mask: Tensor, done: Any, others: Mapping[str, Tensor] | None = None) -> None:
        """Write a mask (p,), plain data, the network and other tensors, in place of what was there.

        Raises `OutputError` when it cannot be written; what was there is then as it was.
        """
        state = {f"{_STATE}{name}": t for name, t in state_of(self._network).items()}
        state |= {f"{_OTHERS}{name}": tensor.clone() for name, tensor in (others or {}).items()}
        about = {
            "format": _FORMAT,
            "settings": json.dumps(self._settings),
            "done": json.dumps(done),
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self._path) as draft:
                save_file({_MASK: mask.cpu(), **state}, draft, metadata=about)
        except Exception as error:  # safetensors raises its own type when the disk is full
            raise OutputError(
                f"{self._path} could not be written: {error}. Free space, or choose another place."
            ) from error

    def remove(self) -> None:
        """The run is done."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> dict[str, str]:
        try:
            with safe_open(self._path, framework="pt") as file:
                about: dict[str, str] = file.metadata() or {}
        except Exception as error:  # noqa: BLE001 (safetensors raises its own type)
            raise InputError(f"{self._path} cannot be read: {error}. Delete it.") from None
        if about.get("format") != _FORMAT:
            raise InputError(
                f"{self._path} does not hold the finished part of a run. Choose another path."
            )
        return about

    def _done(self) -> Any:
        assert self._found is not None
        return json.loads(self._found["done"])

    def _check_settings(self) -> None:
        assert self._found is not None
        before = json.loads(self._found["settings"])
        if before.pop("network") != self._settings["network"]:
            raise InputError(
                f"{self._path} belongs to a network with other weights. Give the same, or delete "
                "it to begin anew."
            )
        now = {name: value for name, value in self._settings.items() if name != "network"}
        differing = [*_differences(before, now)]
        if differing:
            raise InputError(
                f"{self._path} was written under other settings: {'; '.join(differing)}. Give the "
                "same, or delete it to begin anew."
            )


def _differences(before: dict[str, Any], now: dict[str, Any], of: str = "") -> Iterator[str]:
    """What differs, a phrase each; of tables, which of their options."""
    for name, value in now.items():
        own = before.get(name)
        if isinstance(own, dict) and isinstance(value, dict):
            yield from _differences(own, value, f"{of}{name}.")
        elif own != value:
            yield f"`{of}{name}` was {own!r} and is {value!r}"


def _digest(network: nn.Module) -> str:
    """The SHA-256 of all weights and buffers."""
    total = hashlib.sha256()
    for name, value in network.state_dict().items():
        if isinstance(value, torch.Tensor):
            flat = value.detach().cpu().contiguous().reshape(-1)
            total.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
            total.update(flat.view(torch.uint8).numpy().data)
    return total.hexdigest()
