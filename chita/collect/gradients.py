"""The gradients of rows of samples, as a matrix A."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from typing import Any, cast, final

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from chita import nested
from chita.collect.determinism import check_deterministic, check_modes
from chita.data.examples import Examples
from chita.errors import InputError, NumericalError
from chita.layout import Layout
from chita.losses import LOSSES, Loss
from chita.machine import available_memory
from chita.models.forward import failures_named, first_not_finite
from chita.problem import DenseRows
from chita.progress import Progress, Silent, track

_CHUNK_BYTES = 64 << 20  # gradients in flight
_CHUNK_SAMPLES = 128  # samples in flight, for the activations

_Gradients = tuple[dict[str, Tensor], Tensor]
"""Name to gradients (r, ...), and losses (r,)."""


def collect_gradients(
    model: nn.Module,
    layout: Layout,
    examples: Examples,
    *,
    row_size: int = 1,
    loss: Loss = LOSSES["cross_entropy"],
    vectorise: bool = True,
    progress: Progress | None = None,
) -> DenseRows:
    """Return A (n, p): row i is the gradient of the **mean** loss of samples i·m to (i+1)·m - 1.

    n = N / m rows of m = `row_size` samples each. `torch.func` differentiates many rows at a
    time; where a network cannot be vectorised, one backward per row is run instead, to the same
    result. The matrix is written once, p-major, in the type that all weights promote to (float32
    where that is a half type).

    Args:
        model: the network, in eval mode; it is not changed.
        layout: the weights to differentiate by.
        examples: N samples; N must be a multiple of `row_size`, in every part of one structure.
        row_size: samples m per row.
        loss: mean loss over samples.
        vectorise: False runs one backward per row.
        progress: told of every chunk of rows.

    Raises:
        InputError: a norm uses batch statistics, dropout is on, outputs are random, the forward
            pass fails, targets are out of range; each names the module.
        NumericalError: a loss or a gradient is not finite; names the first module concerned.
    """
    _check_whole(examples, row_size)
    check_modes(model)
    sample = next(examples.batches(row_size))
    for part in examples.parts:
        first = next(Examples(part).batches(row_size))
        with failures_named(model, first):
            loss.check(model, nested.map_tensors(torch.clone, first), part)
    with failures_named(model, sample):
        check_deterministic(model, loss, sample)

    rows = len(examples) // row_size
    weights = {name: model.get_parameter(name) for name in layout.names}
    device = weights[layout.names[0]].device
    data = _room(layout.size, rows, rows_type(model, layout), device)
    chunk = chunk_rows(layout.size, row_size)
    objective = _Objective(model, loss)
    filled = 0
    with track(progress or Silent(), "collect gradients", rows, "rows") as told:
        many_rows = _vectorised(objective, weights, row_size)
        one_row = _looped(objective, weights)
        if not vectorise or not _possible(many_rows, sample):
            many_rows, chunk = one_row, 1
        for batch in examples.batches(chunk * row_size):
            try:
                # Cloned, since a network may write into its inputs.
                gradients, losses = many_rows(nested.map_tensors(torch.clone, batch))
            except Exception:
                for row in Examples(batch).batches(row_size):
                    one_row(nested.map_tensors(torch.clone, row))  # tells the place of the failure
                raise
            _check_finite(objective, gradients, losses, batch)
            part = slice(filled, filled + len(losses))
            for name, segment in layout:
                data[segment, part] = gradients[name].detach().reshape(len(losses), -1).T
            filled = part.stop
            told.advance(len(losses))
    if not bool(data.any()):
        raise InputError(
            "All gradients are zero: the loss does not depend on the weights to prune. Is the "
            "forward pass under no_grad, or detached, or its loss constant?"
        )
    return DenseRows(data)


def rows_type(model: nn.Module, layout: Layout) -> torch.dtype:
    """Return the type of the rows: that to which all weights promote, float32 at least."""
    types = (model.get_parameter(name).dtype for name in layout.names)
    return reduce(torch.promote_types, types, torch.float32)


def chunk_rows(p: int, row_size: int) -> int:
    """Return how many rows of p weights are differentiated at a time."""
    return max(1, min(_CHUNK_BYTES // (4 * p), _CHUNK_SAMPLES // row_size))


def _room(p: int, rows: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An empty matrix (p, n), refused where there is no memory for it."""
    needed = p * rows * dtype.itemsize
    free = available_memory() if device.type == "cpu" else None
    if free is not None and needed > free:
        raise InputError(
            f"{rows} rows of {p} weights need {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB of "
            "memory are available. Lower rows, or prune fewer layers at a time with --targets."
        )
    return torch.empty(p, rows, dtype=dtype, device=device)


@final
class _Objective(nn.Module):
    """A network with its loss: batch to mean loss."""

    def __init__(self, model: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.model = model
        self.loss = loss
        self.training = model.training

    def forward(self, batch: Any) -> Tensor:
        """The mean loss, a scalar."""
        return self.loss.mean(self.model, batch).reshape(())


def _vectorised(
    objective: _Objective, weights: Mapping[str, Tensor], row_size: int
) -> Callable[[Any], _Gradients]:
    """A batch of r·m samples to its r gradients and losses, all rows at a time."""
    wanted = {f"model.{name}": weight.detach() for name, weight in weights.items()}
    taken = {id(weight) for weight in weights.values()}
    # A tied weight is left out under its other names too: torch.func ties them again.
    state = [*objective.named_parameters(), *objective.named_buffers()]
    fixed = {name: tensor.detach() for name, tensor in state if id(tensor) not in taken}

    def row_loss(changed: dict[str, Tensor], batch: Any) -> Tensor:
        return cast(Tensor, functional_call(objective, {**fixed, **changed}, (batch,)))

    def many_rows(batch: Any) -> _Gradients:
        dims = nested.map_leaves(lambda leaf: 0 if isinstance(leaf, Tensor) else None, batch)
        one_row = grad_and_value(row_loss)
        grouped = nested.map_tensors(lambda t: t.unflatten(0, (-1, row_size)), batch)
        with warnings.catch_warnings():
            # What torch.func does slowly it still does right.
            warnings.filterwarnings("ignore", message="There is a performance drop")
            gradients, losses = vmap(one_row, in_dims=(None, dims))(wanted, grouped)
        return {name.removeprefix("model."): g for name, g in gradients.items()}, losses

    return many_rows


def _possible(many_rows: Callable[[Any], _Gradients], sample: Any) -> bool:
    """Whether the network can be vectorised."""
    if nested.count(sample) is None:
        return False
    try:
        many_rows(nested.map_tensors(torch.clone, sample))
    except Exception:  # noqa: BLE001 (the loop either works, or fails with the reason)
        return False
    return True


def _looped(objective: _Objective, weights: Mapping[str, Tensor]) -> Callable[[Any], _Gradients]:
    """The batch of one row to its gradient and loss, by one plain backward."""

    def one_row(batch: Any) -> _Gradients:
        with torch.enable_grad(), _differentiable(weights), failures_named(objective.model, batch):
            loss = objective(batch)
            if not loss.requires_grad:
                return {n: torch.zeros_like(w)[None] for n, w in weights.items()}, loss[None]
            found = torch.autograd.grad(
                loss, list(weights.values()), allow_unused=True, materialize_grads=True
            )
        dense = {
            name: (gradient.to_dense() if gradient.is_sparse else gradient)[None]
            for name, gradient in zip(weights, found, strict=True)
        }
        return dense, loss.detach()[None]

    return one_row


@contextmanager
def _differentiable(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Let gradients reach weights that were frozen, for a block."""
    frozen = [weight for weight in weights.values() if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def _check_whole(examples: Examples, row_size: int) -> None:
    if row_size < 1 or len(examples) % row_size:
        raise InputError(
            f"{len(examples)} samples do not make whole rows of {row_size}; give a multiple."
        )
    if any((nested.count(part) or 1) % row_size for part in examples.parts):
        raise InputError(
            f"Rows of {row_size} samples would mix batches of different shapes: "
            f"{'; '.join(nested.described(part) for part in examples.parts[:3])}, ... Bring the "
            "samples to one shape (pad), or use row_size 1."
        )


def _check_finite(
    objective: _Objective, gradients: dict[str, Tensor], losses: Tensor, batch: Any
) -> None:
    if not bool(torch.isfinite(losses).all()):
        bad = int((~torch.isfinite(losses)).sum())
        place = first_not_finite(objective.model, lambda: objective(batch))
        raise NumericalError(
            f"The loss of {bad} rows is not finite; the first value that is not finite comes "
            f"from {place}. Check its weights and the inputs, and that every row has a label that "
            "counts (-100 does not)."
        )
    for name, gradient in gradients.items():
        if not bool(torch.isfinite(gradient).all()):
            raise NumericalError(
                f"The gradient of {name} is not finite though the loss is. Check the network's "
                "operations near that layer."
            )
