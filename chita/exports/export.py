"""A pruned network as a file of some kind: written, checked, then put in its place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from chita.errors import ChitaError, InputError, OutputError, failures_as
from chita.exports.checks import Unlike, refilled
from chita.exports.kind import Checked, Kind, Pruned
from chita.exports.placing import check_export_target, files_in, put_in_place
from chita.exports.table import KINDS
from chita.imports import cause
from chita.masks.fit import Masks, fit_masks
from chita.models.mode import own_modes
from chita.models.stored import once
from chita.models.targets import decide
from chita.models.wrappers import canonical_names
from chita.naming import nearest
from chita.runtimes.copying import copied, tensors_of
from chita.runtimes.inputs import inputs_of


@final
@dataclass(frozen=True, kw_only=True)
class Exported:
    """A file that was written.

    Fields: `kind`; `path`, and `files` with all that belongs to it; `bytes` of these, and of the
    tensors in memory (`dense_bytes`); `nnz`, values of masked tensors that are not zero, as
    counted in the file; `prunable`, entries of these tensors; `difference`, of the outputs from
    the network's (`Difference`), None where tensors were compared; `notes`.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = export(nn.Linear(2, 2, bias=False), f"{folder}/a.safetensors", "dense")
    >>> found.kind, found.prunable
    ('dense', 4)
    """

    kind: str
    path: Path
    files: tuple[Path, ...]
    bytes: int
    dense_bytes: int
    nnz: int
    prunable: int
    difference: float | None
    notes: tuple[str, ...]


def find_kind(name: str) -> Kind:
    """Return a kind of file by its name.

    Raises `InputError` for an unknown name, or when it cannot be written here.
    """
    if name not in KINDS:
        raise InputError(f"Unknown kind of file {name!r}. {nearest(str(name), KINDS)}")
    KINDS[name].check()
    return KINDS[name]


@own_modes()
def export(
    network: nn.Module,
    path: str | Path,
    to: str,
    *,
    inputs: Any = None,
    masks: Masks | None = None,
    values: str | None = None,
    force: bool = False,
) -> Exported:
    """Write a pruned network as a file of some kind, read it again and compare.

    Args:
        network: on any device; it stays as it is.
        path: the file, with the suffix of its kind; a folder for "hf".
        to: the kind: dense, sparse, hf, onnx, mnn, openvino, torch-csr or semi-structured.
        inputs: an example of what the network is called with: a tensor, a tuple of tensors, or a
            dict for keywords, samples first. Not needed for dense and sparse.
        masks: names and boolean tensors (True = kept), or their file; None takes the zeros that
            are there.
        values: "float16" or "bfloat16", for a sparse file only.
        force: whether what is at `path` is replaced.

    Raises:
        InputError: the kind is unknown or cannot be written here, or not of this network.
        OutputError: the path is taken or cannot be written, or what was written is not the network
            that was given; nothing is left there then.

    >>> import tempfile
    >>> import torch
    >>> layer = nn.Linear(2, 2, bias=False)
    >>> _ = layer.weight.data.copy_(torch.eye(2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export(layer, f"{folder}/eye.chita", "sparse").nnz
    2
    """
    kind = find_kind(to)
    target = Path(path)
    check_export_target(kind, target, force=force)
    own = copied(network)
    fitted = zeros_as_masks(own) if masks is None else fit_masks(own, masks)[0]
    names = canonical_names(own)
    given = None if inputs is None else inputs_of(inputs).mapped(lambda t: t.detach().cpu())
    pruned = Pruned(
        tensors=tensors_of(own),
        masks={names[path]: mask.cpu() for path, mask in fitted.items()},
        network=own,
        inputs=given,
        values=values,
    )
    return write_kind(kind, pruned, target, force=force)


def write_kind(kind: Kind, pruned: Pruned, path: Path, *, force: bool) -> Exported:
    """Write, check, and put in place; see `export`."""
    if pruned.values is not None and kind.name != "sparse":
        raise InputError(
            f"`values` is {pruned.values!r}, but {kind.name} keeps the tensors' own types. Leave "
            "it out, or export as sparse."
        )
    if kind.needs_network and (pruned.network is None or pruned.inputs is None):
        raise InputError(
            f"{kind.name} is made by running the network: give an example of its inputs, or "
            "its `data`."
        )
    faults = list(refilled(pruned.tensors, pruned.masks))
    if faults:
        raise InputError(
            f"{'; '.join(faults)}. Set them to zero again with `chita apply`, or export what there "
            "is without masks."
        )
    for name in pruned.masks:
        plain = pruned.tensors[name]
        plain[plain == 0] = 0  # masks that multiply leave negative zeros, which are bits, too
    kind.check_fit(pruned)
    with put_in_place(kind, path, force=force) as draft:
        checked = _written(kind, pruned, draft)
        files = [file.relative_to(draft.parent) for file in files_in(draft.parent)]
        size = sum((draft.parent / file).stat().st_size for file in files)
    return Exported(
        kind=kind.name,
        path=path,
        files=tuple(path.parent / file for file in files),
        bytes=size,
        dense_bytes=sum(t.nbytes for t in once(pruned.tensors).values()),
        nnz=checked.nnz,
        prunable=sum(mask.numel() for mask in pruned.masks.values()),
        difference=checked.difference,
        notes=checked.notes,
    )


def _written(kind: Kind, pruned: Pruned, path: Path) -> Checked:
    """Write a file; failures of the libraries that it asks become an `InputError`."""
    what = f"The {kind.name} file is not the network"
    ask = "It was not kept. Export as dense or sparse, which hold the very tensors."
    try:
        with failures_as(OutputError, what, ask, of=Unlike):
            return kind.write(pruned, path)
    except (ChitaError, OSError):
        raise
    except Exception as error:  # converters raise errors of many libraries
        raise InputError(
            f"{type(pruned.network).__name__} cannot be a file of the kind {kind.name}: "
            f"{cause(error)}. Export it as dense or sparse, which hold any network."
        ) from error


def zeros_as_masks(network: nn.Module) -> dict[str, Tensor]:
    """Return masks of the prunable tensors of a network, by path: True at all that is not zero."""
    chosen = [decision.role for decision in decide(network) if decision.pruned]
    return {
        role.path: role.parameter.detach() != 0 for role in chosen if role.parameter is not None
    }
