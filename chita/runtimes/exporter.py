"""ONNX files by PyTorch's exporter."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from chita.errors import InputError
from chita.imports import cause
from chita.models.mode import evaluation_mode, plain_attention, state_kept, without_cache
from chita.runtimes.inputs import Inputs, outputs_by_name, reference

_OPSET = 18  # newer ones have a GELU of their own, for which MNN's is not close enough
_PREFIX = "network."  # of the names of a wrapped network's tensors


def write_onnx(network: nn.Module, inputs: Inputs, path: Path) -> bool:
    """Write an ONNX file of a network; return whether it takes any number of samples.

    Args:
        network: on the CPU; run in eval mode, without a cache of keys and values.
        inputs: an example; the file's inputs have its names, its outputs those of
            `outputs_by_name`.
        path: of the file; what is too large for one lies beside it.

    Raises `InputError` when the exporter cannot follow the network.
    """
    names = list(reference(network, inputs))
    traced = _Positional(network, inputs)
    fault = ""
    # A dimension of size one is never exported as one of any size, so there are two samples.
    pair = inputs.resized(max(inputs.samples, 2))
    for shape in (*_any_size(pair), None):
        example = inputs if shape is None else pair
        try:
            with (
                _silently(),
                evaluation_mode(network),
                state_kept(network),
                without_cache(network),
                plain_attention(network),
            ):
                program: Any = torch.onnx.export(
                    traced.eval(),
                    example.tensors,
                    dynamo=True,
                    verbose=False,
                    opset_version=_OPSET,
                    input_names=list(inputs.names),
                    output_names=names,
                    dynamic_shapes=shape,
                )
        except Exception as error:  # noqa: BLE001 (the exporter raises errors of many libraries)
            fault = _reason(error)
            continue
        for value in list(program.model.graph.initializers.values()):
            plain = str(value.name).removeprefix(_PREFIX)
            value.name = plain if plain not in (*inputs.names, *names) else value.name
        program.save(path)
        return shape is not None
    raise InputError(
        f"{type(network).__name__} cannot be exported to ONNX: {fault} Take out what depends "
        "on values (torch.export explains it), or export it as dense or sparse."
    )


class _Positional(nn.Module):
    """A network called with tensors in order, which returns tensors in order."""

    def __init__(self, network: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.network = network
        self._inputs = inputs

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of the network, flat."""
        given = replace(self._inputs, tensors=tensors)
        return tuple(outputs_by_name(given.called(self.network), given).values())


def _any_size(inputs: Inputs) -> tuple[tuple[tuple[dict[int, Any], ...]], ...]:
    """Return shapes with any number of samples: with any number of tokens, then without."""
    dynamic = torch.export.Dim.DYNAMIC
    text = [t.ndim == 2 and not t.is_floating_point() for t in inputs.tensors]
    plain = ({0: dynamic},) * len(text)
    tokens = tuple({0: dynamic, 1: dynamic} if words else {0: dynamic} for words in text)
    return ((tokens,), (plain,)) if any(text) else ((plain,),)


@contextmanager
def _silently() -> Iterator[None]:
    """Suppress warnings and log messages of the exporter for a block."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.disable(before)


def _reason(error: Exception) -> str:
    """Return the first cause of a chain, in one line."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return cause(error).splitlines()[0].rstrip(".") + "."
