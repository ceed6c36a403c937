"""A given mask: the best weights for it, or simply put on a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from chita.constraints import FixedMasks
from chita.data.batches import Data
from chita.errors import CheckpointError, InputError
from chita.layout import Layout
from chita.losses import LossLike
from chita.masks.sources import masks_beside, zeros_of
from chita.masks.storage import is_mask_file, load_masks
from chita.models.checkpoint import known_name, read_tensors
from chita.models.prunable import prunable_layout
from chita.models.targets import decide
from chita.models.wrappers import unwrapped
from chita.progress import Progress
from chita.pruning.network import run_stages
from chita.pruning.pose import AUTO, Pose
from chita.pruning.result import PruneResult
from chita.pruning.samples import Sampling
from chita.solvers import BSO, Magnitude

Masks = Mapping[str, Tensor] | str | Path
"""Named masks (True, or not zero, = kept), or a file that holds them."""


def refit(
    model: nn.Module,
    data: Data,
    masks: Masks,
    *,
    rows: int | None = None,
    row_size: int = 1,
    rows_dtype: str | None = None,
    held_out: int | None = None,
    loss: LossLike = None,
    labels: str = "data",
    fisher: str = "auto",
    ridge: float | str = "auto",
    first_order: float | str = "auto",
    step: float | str = "auto",
    seed: int = 0,
    row_indices: Sequence[int] | None = None,
    bn_recalibrate: bool = True,
    inplace: bool = False,
    progress: Progress | None = None,
) -> PruneResult:
    """Give the weights that a mask keeps their best values: the back-solve on a fixed support.

    Args:
        model: the network **before** the mask: its weights are w̄.
        data: calibration samples, as for `prune`.
        masks: which weights are kept; see `read_masks` for the files that are read. Tensors
            without a mask are left untouched.
        rows: as for `prune`, and so are all arguments from here on.
        row_size: see `prune`.
        rows_dtype: see `prune`.
        held_out: see `prune`.
        loss: see `prune`.
        labels: see `prune`.
        fisher: see `prune`.
        ridge: see `prune`.
        first_order: see `prune`.
        step: see `prune`.
        seed: see `prune`.
        row_indices: see `prune`.
        bn_recalibrate: see `prune`.
        inplace: see `prune`.
        progress: see `prune`.

    Raises:
        InputError: the masks do not fit, or the weights outside them are zero already, so that
            nothing would change.
        CheckpointError: the file holds no masks.
        NumericalError: as for `prune`.
    """
    network = unwrapped(model)
    fitted, layout = fit_masks(network, masks)
    if first_order in (0, AUTO) and _nothing_to_do(network, fitted):
        raise InputError(
            "The weights that the mask removes are zero already, so refitting changes nothing. "
            "Give the network as it was before pruning."
        )
    return run_stages(
        network,
        data,
        command="refit",
        choose=lambda _: layout,
        budget=FixedMasks(masks=fitted),
        solver=BSO(),
        sampling=Sampling(
            rows=rows,
            row_size=row_size,
            rows_dtype=rows_dtype,
            held_out=held_out,
            loss=loss,
            labels=labels,
            fisher=fisher,
            seed=seed,
            row_indices=row_indices,
        ),
        pose=Pose(ridge=ridge, first_order=first_order, step=step),
        settings={"mask": _source(masks)},
        bn_recalibrate=bn_recalibrate,
        inplace=inplace,
        progress=progress,
    )


def apply_masks(model: nn.Module, masks: Masks, *, inplace: bool = False) -> PruneResult:
    """Set to zero what a mask removes and change nothing else.

    Args:
        model: any network with tensors of those names and shapes.
        masks: as for `refit`.
        inplace: see `prune`.

    Raises:
        InputError: the masks do not fit.
        CheckpointError: the file holds no masks.
    """
    network = unwrapped(model)
    fitted, layout = fit_masks(network, masks)
    return run_stages(
        network,
        None,
        command="apply",
        choose=lambda _: layout,
        budget=FixedMasks(masks=fitted),
        solver=Magnitude(),
        sampling=Sampling(),
        pose=Pose(),
        settings={"mask": _source(masks)},
        inplace=inplace,
        progress=None,
    )


def read_masks(path: Path, model: nn.Module, *, allow_pickle: bool = False) -> dict[str, Tensor]:
    """Return the masks of a file by tensor name.

    Read are a run folder or its `masks.safetensors`, checkpoints with `weight_mask` buffers of
    `torch.nn.utils.prune`, and the zeros of a checkpoint's prunable tensors.

    Raises `CheckpointError` when the file cannot be read or holds no masks.
    """
    file = path / "masks.safetensors" if path.is_dir() else path
    if is_mask_file(file):
        return load_masks(file)
    known = model.state_dict()
    tensors = {}
    for name, tensor in read_tensors(path, allow_pickle=allow_pickle).items():
        tensors[known_name(name, known) or name] = tensor
    decided = (decision for decision in decide(model) if decision.pruned)
    aliases = {d.role.name: [role.name for role in d.roles] for d in decided}
    return masks_beside(tensors) or zeros_of(tensors, aliases)


def fit_masks(model: nn.Module, masks: Masks) -> tuple[dict[str, Tensor], Layout]:
    """Return the masks under the names of the layout that they make, and this layout.

    Raises `InputError` that lists masks of unknown names or wrong shapes, and `CheckpointError`
    when there are none.
    """
    if isinstance(masks, (str, Path)):
        masks = read_masks(Path(masks), model)
    if not isinstance(masks, Mapping) or not masks:
        raise CheckpointError("There are no masks. Give named boolean tensors, or their file.")
    known = {role.name: decision for decision in decide(model) for role in decision.roles}
    given = {known_name(str(name), known) or str(name): mask for name, mask in masks.items()}
    strange = [n for n, mask in given.items() if not _is_mask(mask)]
    unknown = [name for name in given if name not in known]
    if strange:
        raise InputError(f"Masks must be dense tensors of numbers; these are not: {strange}.")
    if unknown:
        raise InputError(
            f"The network has no parameter {', '.join(unknown)}, for which there are masks. Give "
            "the masks of this architecture."
        )
    layout = prunable_layout(model, targets=list(given))
    device = next(model.parameters()).device
    fitted: dict[str, Tensor] = {}
    for name, mask in given.items():
        first, kept = known[name].role.name, (mask != 0).to(device)
        if first in fitted and not torch.equal(fitted[first], kept):
            raise InputError(f"{first} and {name} are one parameter, but their masks differ.")
        fitted[first] = kept
    layout.flatten(fitted)  # lists every wrong shape
    return fitted, layout


def _is_mask(mask: object) -> bool:
    return isinstance(mask, Tensor) and mask.layout == torch.strided and not mask.is_complex()


def _nothing_to_do(model: nn.Module, masks: Mapping[str, Tensor]) -> bool:
    with torch.no_grad():
        return not any(bool(model.get_parameter(name)[~mask].any()) for name, mask in masks.items())


def _source(masks: Masks) -> str:
    return str(masks) if isinstance(masks, (str, Path)) else f"{len(masks)} tensors"
