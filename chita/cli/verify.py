"""`chita verify`: whether zeros are still zeros."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from chita.cli import options as opt
from chita.cli.console import stderr, stdout
from chita.pruning.verify import verify as verified

Pruned = Annotated[
    Path,
    typer.Argument(
        help="Run folder; or with --mask any checkpoint of the same network, trained or merged "
        "further.",
        show_default=False,
    ),
]
By = Annotated[
    Path | None,
    typer.Option(
        help="Run folder or masks.safetensors by which zeros are checked. [default: the folder's "
        "own masks]"
    ),
]


def verify(
    path: Pruned,
    mask: By = None,
    allow_pickle: opt.AllowPickle = None,
    as_json: opt.Json = False,
) -> None:
    """Check zeros, and of a run folder counts, pattern and hashes; exit code 1 where one fails."""
    found = verified(path, mask, allow_pickle=bool(allow_pickle))
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        for fault in found.faults:
            stderr.print(fault, highlight=False, soft_wrap=True, markup=False)
        told = f"{len(found.faults)} faults" if found.faults else "all as it should be"
        counts = f"{found.kept:,} weights kept and {found.removed:,} removed"
        stdout.print(
            f"{path}: {', '.join(found.checked)} of {found.tensors} tensors, {counts}: {told}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    if found.faults:
        raise typer.Exit(1)
