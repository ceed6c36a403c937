"""The table of named networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

from torch import nn

from chita.errors import CheckpointError, InputError
from chita.models.checkpoint import KeyMap, load_weights, read_tensors, same_name
from chita.models.digits import DigitsCNN, DigitsMLP
from chita.models.paper import mlpnet
from chita.naming import nearest

_BUNDLED = Path(__file__).parent / "weights"


@final
@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A network known by name.

    Fields: `build`, makes it untrained; `data`, the data set it belongs to; `about`, one line;
    `key_map`, for checkpoints in the wild; `bundled`, file name of weights shipped with the
    package.
    """

    build: Callable[[], nn.Module]
    data: str
    about: str
    key_map: KeyMap = same_name
    bundled: str | None = None


MODELS: dict[str, NamedModel] = {
    "digits-mlp": NamedModel(
        build=DigitsMLP,
        data="digits",
        about="64-128-64-10, trained weights shipped",
        bundled="digits_mlp.safetensors",
    ),
    "digits-cnn": NamedModel(
        build=DigitsCNN,
        data="digits",
        about="3 convolutions with BatchNorm, trained weights shipped",
        bundled="digits_cnn.safetensors",
    ),
    "mlpnet": NamedModel(
        build=mlpnet.MLPNet,
        data="mnist",
        about="784-40-20-10 without biases, of the papers; needs --weights",
        key_map=mlpnet.key_map,
    ),
}
"""Every named network, by its name on the command line."""


def load_model(
    name: str, weights: str | Path | None = None, *, allow_pickle: bool = False
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return a named network with its weights, in eval mode, and the tensors dropped on loading.

    Args:
        name: a name in `MODELS`.
        weights: a checkpoint; None takes the weights shipped with the package.
        allow_pickle: see `read_tensors`.

    Raises:
        InputError: the name is unknown.
        CheckpointError: no weights are given and none are shipped, or they do not fit.
    """
    if name not in MODELS:
        raise InputError(f"Unknown model {name!r}. {nearest(name, MODELS)}")
    spec = MODELS[name]
    if weights is None and spec.bundled is None:
        raise CheckpointError(
            f"No weights are shipped for {name}. Give a checkpoint with --weights FILE."
        )
    path = Path(weights) if weights else _BUNDLED / str(spec.bundled)
    model = spec.build().eval()
    dropped = load_weights(
        model, read_tensors(path, allow_pickle=allow_pickle), key_map=spec.key_map
    )
    return model, dropped
