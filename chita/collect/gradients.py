"""The gradients of rows of samples, as a matrix A."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from chita.collect.determinism import check_deterministic, check_modes
from chita.data.batches import Examples
from chita.errors import InputError, NumericalError
from chita.layout import Layout
from chita.models.forward import first_not_finite
from chita.problem import DenseRows
from chita.progress import Progress, Silent, track

Loss = Callable[[Tensor, Tensor], Tensor]
"""Outputs (m, ...) and targets (m, ...) to the mean loss over m samples, a scalar."""

_CHUNK_BYTES = 64 << 20  # gradients in flight
_CHUNK_SAMPLES = 128  # samples in flight, for the activations

_RowGradients = Callable[[Tensor, Tensor], tuple[dict[str, Tensor], Tensor]]


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy (natural log) of logits (m, classes, ...) and classes (m, ...)."""
    return nn.functional.cross_entropy(outputs, targets)


def collect_gradients(
    model: nn.Module,
    layout: Layout,
    examples: Examples,
    *,
    row_size: int = 1,
    loss: Loss = cross_entropy,
    vectorise: bool = True,
    progress: Progress | None = None,
) -> DenseRows:
    """Return A (n, p): row i is the gradient of the **mean** loss of samples i·m to (i+1)·m - 1.

    n = N / m rows of m = `row_size` samples each. `torch.func` differentiates many rows at a
    time; where a network cannot be vectorised, one backward per row is run instead, to the same
    result. The matrix is written once, p-major, in the type of the weights
    (float32 where that is a half type).

    Args:
        model: the network, in eval mode; it is not changed.
        layout: the weights to differentiate by.
        examples: N samples; N must be a multiple of `row_size`.
        row_size: samples m per row.
        loss: mean loss over samples.
        vectorise: False runs one backward per row.
        progress: told of every chunk of rows.

    Raises:
        InputError: a norm uses batch statistics, dropout is on, outputs are random, the forward
            pass fails, targets are out of range; each names the module.
        NumericalError: a loss or a gradient is not finite; names the first module concerned.
    """
    if row_size < 1 or len(examples) % row_size:
        raise InputError(
            f"{len(examples)} samples do not make whole rows of {row_size}; give a multiple."
        )
    check_modes(model)
    rows = len(examples) // row_size
    inputs = examples.inputs.view(rows, row_size, *examples.inputs.shape[1:])
    targets = examples.targets.view(rows, row_size, *examples.targets.shape[1:])
    check_deterministic(model, inputs[0])
    _check_targets(model, inputs[0], examples.targets, loss)

    one_row = _one_row(model, layout, loss)
    weight = model.get_parameter(layout.names[0])
    dtype = torch.promote_types(weight.dtype, torch.float32)
    data = torch.empty(layout.size, rows, dtype=dtype, device=weight.device)
    chunk = max(1, min(_CHUNK_BYTES // (4 * layout.size), _CHUNK_SAMPLES // row_size))
    many_rows = _vectorised(one_row, inputs, targets) if vectorise else None
    if many_rows is None:
        many_rows, chunk = _looped(one_row), 1
    progress = progress or Silent()
    with track(progress, "collect gradients", rows, "rows"):
        for start in range(0, rows, chunk):
            part = slice(start, min(start + chunk, rows))
            # Cloned, since a network may write into its inputs.
            gradients, losses = many_rows(inputs[part].clone(), targets[part])
            _check_finite(model, gradients, losses, inputs[part])
            for name, segment in layout:
                data[segment, part] = gradients[name].flatten(1).T
            progress.advance(part.stop - part.start)
    return DenseRows(data)


def _one_row(model: nn.Module, layout: Layout, loss: Loss) -> _RowGradients:
    """(inputs (m, ...), targets (m, ...)) to the named gradients and the loss of one row."""
    wanted = {name: model.get_parameter(name).detach() for name in layout.names}
    taken = {id(model.get_parameter(name)) for name in layout.names}
    # A tied weight is left out under its other names too: torch.func ties them again.
    state = [*model.named_parameters(), *model.named_buffers()]
    fixed = {name: tensor.detach() for name, tensor in state if id(tensor) not in taken}

    def row_loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return loss(functional_call(model, {**fixed, **weights}, (x,)), y)

    differentiate = grad_and_value(row_loss)
    return lambda x, y: cast(tuple[dict[str, Tensor], Tensor], differentiate(wanted, x, y))


def _vectorised(one_row: _RowGradients, inputs: Tensor, targets: Tensor) -> _RowGradients | None:
    """`one_row` over a leading dimension of rows, or None where the network does not allow it."""
    many_rows = vmap(one_row)
    try:
        with warnings.catch_warnings():
            # What torch.func does slowly it still does right.
            warnings.filterwarnings("ignore", message="There is a performance drop")
            many_rows(inputs[:1].clone(), targets[:1])
    except (RuntimeError, NotImplementedError, ValueError, TypeError):
        return None  # the loop either works, or fails with the reason
    return many_rows


def _looped(one_row: _RowGradients) -> _RowGradients:
    def many_rows(inputs: Tensor, targets: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        results = [one_row(x, y) for x, y in zip(inputs, targets, strict=True)]
        names = results[0][0]
        stacked = {name: torch.stack([row[name] for row, _ in results]) for name in names}
        return stacked, torch.stack([loss for _, loss in results])

    return many_rows


def _check_targets(model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss) -> None:
    """Refuse targets that the loss cannot take, or takes for what they are not."""
    with torch.no_grad():
        outputs = model(inputs.clone())
        if loss is cross_entropy and outputs.ndim < 2:
            raise InputError(
                f"cross_entropy needs outputs (batch, classes, ...); got {tuple(outputs.shape)}."
            )
        if loss is not cross_entropy or targets.is_floating_point():
            _try_loss(loss, outputs, targets[: len(inputs)])
            return
    low, high, classes = int(targets.min()), int(targets.max()), outputs.shape[1]
    if low < 0 or high >= classes:
        raise InputError(
            f"The targets run from {low} to {high}, but the network has {classes} classes: they "
            f"must lie in 0 to {classes - 1}."
        )
    _try_loss(loss, outputs, targets[: len(inputs)])


def _try_loss(loss: Loss, outputs: Tensor, targets: Tensor) -> None:
    try:
        loss(outputs, targets)
    except Exception as error:  # losses of other libraries fail in ways of their own
        raise InputError(
            f"The loss fails on outputs {tuple(outputs.shape)} {outputs.dtype} and targets "
            f"{tuple(targets.shape)} {targets.dtype}: {error} Give targets that fit the loss."
        ) from error


def _check_finite(
    model: nn.Module, gradients: dict[str, Tensor], losses: Tensor, inputs: Tensor
) -> None:
    bad = (~torch.isfinite(losses)).nonzero().squeeze(1)
    if len(bad):
        place = first_not_finite(model, inputs[int(bad[0])])
        raise NumericalError(
            f"The loss of {len(bad)} rows is not finite; the first value that is not finite comes "
            f"from {place}. Check its weights and the inputs."
        )
    for name, gradient in gradients.items():
        if not bool(torch.isfinite(gradient).all()):
            raise NumericalError(
                f"The gradient of {name} is not finite though the loss is. Check the network's "
                "operations near that layer."
            )
