"""`chita export`: a run as a file for some program, checked."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from chita.cli import options as opt
from chita.cli.console import stdout
from chita.cli.feedback import Feedback, LogFormat
from chita.cli.reopened import inputs_for, open_run, run_folder
from chita.errors import InputError
from chita.exports.export import Exported, find_kind, write_kind
from chita.exports.export import export as export_network
from chita.exports.kind import Pruned
from chita.exports.kinds import KINDS
from chita.exports.placing import check_export_target
from chita.masks.storage import load_masks, mask_file
from chita.models.checkpoint import load

Run = Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]
To = Annotated[
    str,
    typer.Option(help="Kind of file: " + "; ".join(f"{k.name}: {k.about}" for k in KINDS.values())),
]
File = Annotated[Path, typer.Option("--out", help="File to write; a folder for hf.")]
Values = Annotated[
    str | None,
    typer.Option(help="float16 or bfloat16: how a sparse file stores numbers. [default: as is]"),
]
Batch = Annotated[
    int, typer.Option(help="Samples that it is called with, to measure and to compare.")
]


def export(
    run: Run,
    to: To,
    out: File,
    values: Values = None,
    batch: Batch = 1,
    model: opt.Model = None,
    allow_pickle: opt.AllowPickle = None,
    data: opt.Data = None,
    data_dir: opt.DataDir = None,
    image_size: opt.ImageSize = None,
    image_mean: opt.ImageMean = None,
    image_std: opt.ImageStd = None,
    length: opt.Length = None,
    force: opt.Force = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    log_format: opt.LogFormat = LogFormat.TEXT,
) -> None:
    """Write a run for some program, read it again, and compare it with the pruned network."""
    given = {name: value for name, value in locals().items() if name in _NETWORK}
    kind = find_kind(to)
    check_export_target(kind, out, force=bool(force))
    if batch < 1:
        raise InputError(f"--batch is {batch}; give 1 or more samples.")
    feedback = Feedback(quiet=quiet, log_format=log_format)
    masks = load_masks(mask_file(run_folder(run)))
    if not kind.needs_network:
        pruned = Pruned(tensors=load(run), masks=masks, values=values)
        found = write_kind(kind, pruned, out, force=bool(force))
    else:
        session = open_run(run, given, feedback)
        inputs = inputs_for(session, batch)
        found = export_network(
            session.network, out, to, inputs=inputs, masks=masks, values=values, force=bool(force)
        )
    _show(found, as_json=as_json)


_NETWORK = (
    *("model", "allow_pickle", "data", "data_dir"),
    *("image_size", "image_mean", "image_std", "length"),
)


def _show(found: Exported, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(found), default=str))
        return
    share = found.bytes / max(found.dense_bytes, 1)
    compared = (
        "tensors as they were"
        if found.difference is None
        else f"outputs differ by {found.difference:.2g} of a value at most"
    )
    lines = [
        f"{found.kind}: {', '.join(map(str, found.files))}",
        f"{found.bytes / 1e6:,.3f} MB, {share:.3f} of the dense tensors",
        f"read again: {found.nnz:,} of {found.prunable:,} weights not zero, {compared}",
        *found.notes,
    ]
    for line in lines:
        stdout.print(line, highlight=False, soft_wrap=True)
