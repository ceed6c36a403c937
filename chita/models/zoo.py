"""Networks by what users name them: the table, other libraries, a function of their own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from chita.errors import CheckpointError, InputError, failures_as
from chita.image_format import ImageFormat
from chita.imports import called, cause, is_import
from chita.models.checkpoint import load, load_weights
from chita.models.digits import DigitsCNN, DigitsMLP
from chita.models.foreign import told_of
from chita.models.hugging_face import CONFIG, hugging_face_model
from chita.models.named import NamedModel
from chita.models.paper import key_map, mlpnet, mobilenet_v1, resnet20, resnet50
from chita.models.vision import timm_model, torchvision_model
from chita.models.wrappers import unwrapped
from chita.naming import nearest

_BUNDLED = Path(__file__).parent / "weights"
_SEED = 0  # of what functions of users draw
_IMAGENET = ImageFormat(size=224)

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
        about="784-40-20-10 without biases, of the papers; needs weights",
        key_map=key_map,
    ),
    "resnet20": NamedModel(
        build=resnet20.ResNet20,
        about="of the papers, for CIFAR-10; needs weights and data",
        key_map=key_map,
        images=resnet20.CIFAR10,
    ),
    "resnet50": NamedModel(
        build=resnet50.ResNet50,
        about="of the papers, for ImageNet; needs weights and data",
        key_map=key_map,
        images=_IMAGENET,
    ),
    "mobilenet-v1": NamedModel(
        build=mobilenet_v1.MobileNetV1,
        about="of the papers, for ImageNet; needs weights and data",
        key_map=key_map,
        images=_IMAGENET,
    ),
}
"""Every named network, by its name on the command line."""

LIBRARIES: dict[str, Callable[[str], NamedModel]] = {
    "torchvision": torchvision_model,
    "timm": timm_model,
    "hf": hugging_face_model,
}
"""Libraries whose networks are named `library:name`."""


def find_model(name: str) -> NamedModel:
    """Return what is known of a network.

    Args:
        name: a name in `MODELS`; `torchvision:NAME`, `timm:NAME` or `hf:PATH_OR_ID`; or
            `package.module:function`, which is called without arguments and returns a network.
            What it draws from torch's generator of the CPU begins at a seed of its own, always the
            same, and leaves that generator as it was.

    Raises `InputError` when the name is not known.
    """
    if name in MODELS:
        return MODELS[name]
    library, _, rest = name.partition(":")
    if rest and library in LIBRARIES:
        return LIBRARIES[library](rest)
    if is_import(name):
        return NamedModel(
            build=lambda: _network(name),
            trained=lambda: _network(name),
            about="of your own",
            own=True,
        )
    if (Path(name) / CONFIG).is_file():
        raise InputError(f"{name} is a folder with a network of Hugging Face. Give hf:{name}.")
    if name and Path(name).exists():
        raise InputError(
            told_of(Path(name))
            or f"{name} is a path, and `model` is the name of a network. Give that, and the path "
            "as `weights` if it holds them."
        )
    raise InputError(
        f"Unknown model {name!r}. {nearest(name, MODELS)} Or give package.module:function, "
        "torchvision:NAME, timm:NAME or hf:PATH_OR_ID."
    )


def load_model(
    name: str, weights: str | Path | None = None, *, allow_pickle: bool = False
) -> nn.Module:
    """Return a named network with its weights, in eval mode.

    A warning lists tensors of the checkpoint that the network has no place for.

    Args:
        name: see `find_model`.
        weights: a checkpoint; None takes the weights shipped with the package, those that the
            library downloads, or those that the function gives.
        allow_pickle: see `load`.

    Raises:
        InputError: the name is unknown, or the network cannot be made.
        CheckpointError: no weights are given and none are shipped, or they do not fit.

    The network 64-128-64-10 has 17,024 weights and 202 biases:

    >>> sum(p.numel() for p in load_model("digits-mlp").parameters())
    17226
    """
    network, dropped = load_network(name, weights, allow_pickle=allow_pickle)
    if dropped:
        warnings.warn(f"Dropped from the checkpoint: {', '.join(dropped)}", stacklevel=2)
    return network


def load_network(
    name: str, weights: str | Path | None = None, *, allow_pickle: bool = False
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return what `load_model` does, and the tensors dropped on loading, without a warning."""
    if not isinstance(name, str) or not isinstance(weights, (str, Path, type(None))):
        raise InputError(
            f"load_model({name!r}, {weights!r}): give a name and the path of a checkpoint."
        )
    spec = find_model(name)
    if weights is None and spec.trained is not None:
        return _made(name, spec.trained), ()
    if weights is None and spec.bundled is None:
        raise CheckpointError(f"No weights are shipped for {name}. Give a checkpoint: `weights`.")
    path = Path(weights) if weights else _BUNDLED / str(spec.bundled)
    tensors = load(path, allow_pickle=allow_pickle)
    model = _made(name, spec.build)
    dropped = load_weights(model, tensors, key_map=spec.key_map)
    return model, dropped


def _network(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(_SEED)
        network = called(name)
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{name} returned a {type(network).__name__}; it must return a torch.nn.Module."
        )
    return network


def _made(name: str, build: Callable[[], nn.Module]) -> nn.Module:
    ask = "Without a connection, give its `weights` as a file."
    with failures_as(InputError, f"{name} cannot be made", ask, why=cause):
        return unwrapped(build()).eval()
