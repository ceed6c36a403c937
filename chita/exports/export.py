"""A pruned network as a file of some kind: written, checked, then put in its place."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from chita.errors import ChitaError, InputError, OutputError
from chita.exports.hugging_face import FILES
from chita.exports.kind import Kind, Pruned
from chita.exports.kinds import KINDS
from chita.exports.run_folder import draft_beside, flush
from chita.masks.fit import Masks, fit_masks
from chita.models.targets import decide
from chita.naming import nearest, plain_name
from chita.runtimes.inputs import inputs_of


@final
@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Fields: `kind`; `path`, and `files` with all that belongs to it; `bytes` of these, and of the
    tensors in memory (`dense_bytes`); `nnz`, values of masked tensors that are not zero, as
    counted in the file; `prunable`, entries of these tensors; `difference`, of the outputs from
    the network's as a share of the largest, None where tensors were compared; `notes`.
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

    Raises `InputError` when there is none, or it cannot be written here.
    """
    if name not in KINDS:
        raise InputError(f"Unknown kind of file {name!r}. {nearest(str(name), KINDS)}")
    missing = KINDS[name].missing()
    if missing is not None:
        raise InputError(missing)
    return KINDS[name]


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
        values: "float16" or "bfloat16", of a sparse file alone.
        force: whether what is at `path` is replaced.

    Raises:
        InputError: the kind is unknown or cannot be written here, or not of this network.
        OutputError: the path is taken or cannot be written, or what was written is not the network
            that was given; nothing is left there then.
    """
    kind = find_kind(to)
    target = Path(path)
    check_export_target(kind, target, force=force)
    own = copy.deepcopy(network).cpu().eval()
    fitted = zeros_as_masks(own) if masks is None else fit_masks(own, masks)[0]
    given = None if inputs is None else inputs_of(inputs).mapped(lambda t: t.detach().cpu())
    state = {plain_name(name): tensor.detach() for name, tensor in own.state_dict().items()}
    pruned = Pruned(
        tensors=state,
        masks={plain_name(name): mask.cpu() for name, mask in fitted.items()},
        network=own,
        inputs=given,
        values=values,
    )
    return write_kind(kind, pruned, target, force=force)


def write_kind(kind: Kind, pruned: Pruned, path: Path, *, force: bool) -> Exported:
    """Write, check, and put in place; see `export`."""
    if pruned.values is not None and kind.name != "sparse":
        raise InputError(
            f"values is {pruned.values!r}, but {kind.name} keeps the tensors' own types. Export "
            "as sparse, or convert the network first."
        )
    if kind.needs_network and (pruned.network is None or pruned.inputs is None):
        raise InputError(
            f"{kind.name} is made by running the network: give an example of its inputs (inputs=, "
            "or --data)."
        )
    _check_zeros(pruned)
    for name in pruned.masks:
        plain = pruned.tensors[name]
        plain[plain == 0] = 0  # masks that multiply leave negative zeros, which are bits, too
    unfit = kind.unfit(pruned) if kind.needs_network else None
    if unfit is not None:
        raise InputError(unfit)
    with _placed(kind, path, force=force) as draft:
        checked = kind.write(pruned, draft)
        files = sorted(file.relative_to(draft.parent) for file in _files(draft.parent))
        size = sum((draft.parent / file).stat().st_size for file in files)
    return Exported(
        kind=kind.name,
        path=path,
        files=tuple(path.parent / file for file in files),
        bytes=size,
        dense_bytes=sum(t.numel() * t.element_size() for t in pruned.tensors.values()),
        nnz=checked.nnz,
        prunable=sum(mask.numel() for mask in pruned.masks.values()),
        difference=checked.difference,
        notes=checked.notes,
    )


def zeros_as_masks(network: nn.Module) -> dict[str, Tensor]:
    """Return where the prunable tensors of a network are not zero."""
    chosen = [decision.role for decision in decide(network) if decision.pruned]
    return {
        role.name: role.parameter.detach() != 0 for role in chosen if role.parameter is not None
    }


def check_export_target(kind: Kind, path: Path, *, force: bool) -> None:
    """Raise `OutputError` when a file of this kind could not be written to `path`."""
    if kind.suffix and path.suffix != kind.suffix:
        raise OutputError(
            f"{path} is no name for {kind.name}. Give one that ends in {kind.suffix}."
        )
    if path.name in ("", ".."):
        raise OutputError(f"{path} names nothing to be made. Choose another path (--out).")
    if not (path.exists() or path.is_symlink()):
        return
    if not force:
        raise OutputError(f"{path} exists. Choose another, or replace it: force=True, or --force.")
    if kind.suffix and not path.is_file():
        raise OutputError(f"{path} is no file, so force does not replace it. Choose another.")
    if not kind.suffix and not _replaceable(path):
        raise OutputError(
            f"{path} holds more than a network of transformers, so force does not replace it. "
            "Choose another."
        )


def _replaceable(path: Path) -> bool:
    if not path.is_dir() or path.is_symlink():
        return False
    names = {entry.name for entry in path.iterdir()}
    weights = {n for n in names if n.startswith("model") and ".safetensors" in n}
    return not names - weights - FILES


def _check_zeros(pruned: Pruned) -> None:
    """Raise `InputError` when removed weights are not zero, or masked tensors are missing."""
    missing = [name for name in pruned.masks if name not in pruned.tensors]
    if missing:
        raise InputError(f"There are masks of {', '.join(missing)}, but no such tensors.")
    refilled = [
        name
        for name, mask in pruned.masks.items()
        if bool((pruned.tensors[name][~mask] != 0).any())
    ]
    if refilled:
        raise InputError(
            f"Removed weights are not zero in {', '.join(refilled)}. Set them to zero again "
            "(`chita apply --mask`), or export what there is without masks."
        )


@contextmanager
def _placed(kind: Kind, path: Path, *, force: bool) -> Iterator[Path]:
    """A place for the file, in a folder of its own beside `path`; all in it is moved at the end."""
    check_export_target(kind, path, force=force)
    path = path.absolute()
    try:
        with draft_beside(path) as folder:
            yield folder / path.name
            beside = [entry for entry in folder.iterdir() if entry.name != path.name]
            ordered = (*sorted(beside), folder / path.name)  # what names the others comes last
            taken = [path.parent / e.name for e in ordered if (path.parent / e.name).exists()]
            if taken and not force:
                raise OutputError(
                    f"{taken[0]} exists. Choose another path, or replace it: force=True, or "
                    "--force."
                )
            for file in _files(folder):
                file.chmod(0o644)
                flush(file)
            for entry in ordered:
                _move(entry, path.parent / entry.name)
    except ChitaError:
        raise
    except Exception as error:  # libraries raise their own types when the disk is full
        raise OutputError(
            f"{path} could not be written: {error}. Nothing was left there; free space or choose "
            "another path (--out)."
        ) from error


def _move(entry: Path, target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        old = target.with_name(f".{target.name}.old")
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        entry.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    else:
        entry.replace(target)


def _files(folder: Path) -> list[Path]:
    return [entry for entry in folder.rglob("*") if entry.is_file()]
