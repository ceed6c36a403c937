"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from chita.cli.console import stderr
from chita.errors import InputError
from chita.models.zoo import load_model

Model = Annotated[
    str | None, typer.Option(help="Network, as listed by `chita models`. [default: digits-mlp]")
]
Weights = Annotated[
    Path | None,
    typer.Option(help="Checkpoint or run folder. [default: the weights shipped with the network]"),
]
AllowPickle = Annotated[
    bool | None,
    typer.Option(
        "--allow-pickle",
        help="Unpickle foreign objects in --weights. This runs code stored in the file.",
    ),
]
Data = Annotated[
    str | None, typer.Option(help="Data set: digits or mnist. [default: the network's own]")
]
DataDir = Annotated[Path | None, typer.Option(help="Folder of the data set. [default: here]")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps, ... [default: cpu]")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, alone on standard output.")
]


def load_network(
    name: str, weights: Path | None, *, allow_pickle: bool, device: torch.device
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a named network on a device, and the tensors dropped on loading, which are shown."""
    network, dropped = load_model(name, weights, allow_pickle=allow_pickle)
    if dropped:
        stderr.print(f"Dropped from the checkpoint: {', '.join(dropped)}", markup=False)
    return network.to(device), dropped


def usable_device(name: str) -> torch.device:
    """Return the device of a name.

    Raises `InputError` when there is none of that name here.
    """
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(
            f"The device {name!r} cannot be used here: {str(error).splitlines()[0]} "
            "Use --device cpu, or install a PyTorch build for this hardware."
        ) from None
    return device
