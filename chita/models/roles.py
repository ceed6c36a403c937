"""The roles of parameters: their owner, their axes, whether they are weights to prune."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from chita.imports import is_of
from chita.layout import Axes
from chita.models.wrappers import canonical_names
from chita.naming import plain_name

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_RECURRENT_WEIGHT = re.compile(r"weight_(ih|hh|hr)(_l\d+(_reverse)?)?")
_ATTENTION_WEIGHTS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_SUFFIX = re.compile(r"_(orig|g|v)$")  # of what torch.nn.utils computes a weight from

_TURNED = {
    ("transformers", "Llama4TextExperts"): True,
    ("transformers", "CsmCodebooksHead"): True,
    ("transformers", "InklingSharedExperts"): False,
    ("transformers", "JetMoeParallelExperts"): False,
    ("transformers", "LongcatFlashExperts"): False,
    ("transformers", "MoshiFlexibleLinear"): False,
}
"""Whether classes that do not say it themselves hold the inputs before the outputs."""


@final
@dataclass(frozen=True, kw_only=True)
class Role:
    """A parameter as one module holds it; a tied parameter has one role per name.

    Fields: `name`, see `chita.models.wrappers.canonical_names`; `path` in the network, the same
    but inside of wrappers; `owner`, the module's path; `kinds`, the class names of the owner, the
    most special first; `around`, those of the modules that hold it; `axes`; `weight`, whether it is
    the weight of a layer that can be pruned, and `embedding`, whether of an embedding;
    `parameter`, None where the module computes that weight from others; `computes`, whether it is
    one of these others.
    """

    name: str
    path: str
    owner: str
    kinds: tuple[str, ...]
    around: frozenset[str]
    axes: Axes
    weight: bool
    embedding: bool
    parameter: Tensor | None
    computes: bool

    @property
    def kind(self) -> str:
        """The class name of the owner."""
        return self.kinds[0]


def roles(model: nn.Module) -> Iterator[Role]:
    """Iterate over all parameters of a network in module order, tied ones under each name."""
    names = canonical_names(model)
    for owner, module in model.named_modules(remove_duplicate=False):
        weights = dict(_weights(module))
        own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
        kinds = _kinds(module)
        parts = owner.split(".") if owner else []
        holders = (model.get_submodule(".".join(parts[:depth])) for depth in range(len(parts)))
        around = frozenset(kind for holder in holders for kind in _kinds(holder))
        for attribute in dict.fromkeys([*weights, *own]):
            path = f"{owner}.{attribute}" if owner else attribute
            yield Role(
                name=names.get(path, plain_name(path)),
                path=path,
                owner=owner,
                kinds=kinds,
                around=around,
                axes=weights.get(attribute) or _bare_axes(module, own.get(attribute)),
                weight=attribute in weights,
                embedding=isinstance(module, _EMBEDDINGS),
                parameter=own.get(attribute),
                computes="ParametrizationList" in {*kinds, *around}
                or _is_original(module, attribute),
            )


def _kinds(module: nn.Module) -> tuple[str, ...]:
    """Return the class names of a module, the most special first, without `Module` itself."""
    names = tuple(k.__name__ for k in type(module).__mro__ if issubclass(k, nn.Module))
    return names[:-1] or names


def _is_original(module: nn.Module, attribute: str) -> bool:
    """Return whether `torch.nn.utils` left a plain tensor that it computes from this parameter."""
    computed = _SUFFIX.sub("", attribute)
    return computed != attribute and isinstance(vars(module).get(computed), Tensor)


def _weights(module: nn.Module) -> Iterator[tuple[str, Axes]]:
    """Iterate over the attributes of a module that are weights to prune, with their axes."""
    if isinstance(module, (nn.Linear, nn.Bilinear)):
        yield "weight", Axes()
    elif isinstance(module, CONVOLUTIONS):
        yield "weight", Axes(groups=module.groups)
    elif isinstance(module, _TRANSPOSED):
        yield "weight", Axes(output=1, input=0, groups=module.groups)
    elif isinstance(module, _EMBEDDINGS) or is_conv1d(module):
        yield "weight", Axes(output=1, input=0)
    elif isinstance(module, nn.MultiheadAttention):
        for name in _ATTENTION_WEIGHTS:
            if getattr(module, name, None) is not None:
                yield name, Axes()
    elif isinstance(module, _RECURRENT):
        names = dict.fromkeys([*module._parameters, *_parametrised(module)])
        for name in names:
            if _RECURRENT_WEIGHT.fullmatch(name):
                yield name, Axes()


def _bare_axes(module: nn.Module, parameter: Tensor | None) -> Axes:
    """Return the axes of a parameter that is no layer's weight.

    One of three dimensions is taken for matrices side by side, as experts are. The module may say
    whether they, or the only one, hold the inputs first, as modules of transformers do; of some the
    class tells. Of others it is not known, and `linear`'s order is taken.
    """
    if parameter is None or is_lazy(parameter) or parameter.ndim < 2:
        return Axes()
    named = next((turned for kind, turned in _TURNED.items() if is_of(module, *kind)), None)
    said = getattr(module, "is_transposed", named)
    first, last = (1, 2) if parameter.ndim == 3 else (0, 1)
    output, inputs = (last, first) if said is True else (first, last)
    return Axes(output=output, input=inputs, known=isinstance(said, bool))


def _parametrised(module: nn.Module) -> list[str]:
    """Return names of weights that a recurrent module computes from other parameters."""
    inner = list(getattr(module, "parametrizations", {}))
    return inner + [_SUFFIX.sub("", name) for name in module._parameters if _SUFFIX.search(name)]


def is_conv1d(module: nn.Module) -> bool:
    """Return whether this is Hugging Face's `Conv1D`, a linear layer with its weight (in, out)."""
    named = type(module).__name__ == "Conv1D" and hasattr(module, "nf")
    return named and isinstance(getattr(module, "weight", None), Tensor)
