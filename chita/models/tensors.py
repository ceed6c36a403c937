"""Tensors whose entries can be read, pruned and written in place; others by what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from chita.errors import InputError
from chita.naming import listed

_MOST = 5  # names in a message
_COPY = "Leave `inplace` out, or give copy.deepcopy of the network"


def is_plain(tensor: Tensor) -> bool:
    """Return whether a tensor has values in memory of its own that strides describe.

    So not those without values, sparse ones, and classes that stand for other tensors, as sharded
    weights (`DTensor`) and quantised ones do.
    """
    return not (
        is_lazy(tensor) or tensor.is_meta or _stands_for_others(tensor) or is_packed(tensor)
    )


def check_weights(weights: Mapping[str, Tensor]) -> None:
    """Raise `InputError` that names weights of a kind that cannot be pruned, and the way out."""
    for is_so, verb, what, ask in _KINDS:
        found = [name for name, weight in weights.items() if is_so(weight)]
        if found:
            first = weights[found[0]]
            kind = what.format(kind=type(first).__name__, layout=first.layout, dtype=first.dtype)
            verb = verb if len(found) == 1 else {"is": "are", "has": "have"}[verb]
            raise InputError(
                f"{listed(found, _MOST)} {verb} {kind}. {ask} Or leave out with `ignore` what is "
                "named."
            )


def check_places(written: Mapping[str, Tensor]) -> None:
    """Raise `InputError` that names tensors of which several entries lie in one place of memory."""
    found = [name for name, tensor in written.items() if _repeats(tensor)]
    if found:
        raise InputError(
            f"{listed(found, _MOST)}: several entries lie in one place of memory, as expand() "
            f"makes them. {_COPY}, or give each its own place by clone()."
        )


def check_writable(model: nn.Module, written: Mapping[str, Tensor]) -> None:
    """Raise `InputError` that names tensors of a network that cannot be written to in place.

    Those of inference mode cannot, and those whose entries lie where others do, of their own or of
    another parameter. A copy of the network has none of these faults.
    """
    found = [name for name, tensor in written.items() if tensor.is_inference()]
    if found:
        raise InputError(
            f"{listed(found, _MOST)}: made under torch.inference_mode(), outside of which nothing "
            f"can be written there. {_COPY}, or build the network outside that mode."
        )
    check_places(written)
    for pair in sharing(dict(model.named_parameters())):
        if not written.keys().isdisjoint(pair):
            raise InputError(
                f"{' and '.join(pair)} share memory without being one parameter. {_COPY}, or give "
                "each its own by clone()."
            )


def sharing(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Iterate over the names of tensors that have an entry in common, pair by pair.

    >>> whole = torch.zeros(3, 4)
    >>> list(sharing({"left": whole[:, :2], "right": whole[:, 2:], "row": whole[1]}))
    [('left', 'row'), ('right', 'row')]
    """
    plain = {name: t for name, t in tensors.items() if is_plain(t) and t.numel()}
    open_spans: list[tuple[str, int, str]] = []
    for device, (first, behind), name in sorted(
        (str(t.device), _span(t), n) for n, t in plain.items()
    ):
        open_spans = [span for span in open_spans if span[0] == device and span[1] > first]
        for *_, other in open_spans:
            if _meet(plain[other], plain[name]):
                yield other, name
        open_spans.append((device, behind, name))


def _span(tensor: Tensor) -> tuple[int, int]:
    """Return the first byte of a tensor, and that behind its last."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in steps)
    return tensor.data_ptr(), tensor.data_ptr() + (last + 1) * tensor.itemsize


def _meet(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors whose spans overlap have a byte in common: columns have none."""
    low, high = min(_span(a), _span(b))[0], max(_span(a)[1], _span(b)[1])
    marks = torch.zeros(high - low, dtype=torch.bool, device="cpu")
    bytes_of_a, bytes_of_b = (
        marks.as_strided(
            (*t.shape, t.itemsize), (*(s * t.itemsize for s in t.stride()), 1), t.data_ptr() - low
        )
        for t in (a, b)
    )
    bytes_of_a.fill_(True)
    return bool(bytes_of_b.any())


def _stands_for_others(tensor: Tensor) -> bool:
    return type(tensor).__torch_dispatch__ is not Tensor.__torch_dispatch__


def is_packed(tensor: Tensor) -> bool:
    """Return whether a tensor is sparse, nested or quantised."""
    return tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized


def _repeats(tensor: Tensor) -> bool:
    """Return whether several entries lie in one place, as in tensors that were expanded."""
    first, behind = _span(tensor)
    return (behind - first) // tensor.itemsize < tensor.numel()


_KINDS: tuple[tuple[Callable[[Tensor], bool], str, str, str], ...] = (
    (
        lambda t: is_lazy(t) or t.is_meta,
        "has",
        "no values yet",
        "Run the network once, or load weights.",
    ),
    (
        _stands_for_others,
        "is",
        "a {kind}, which stands for other tensors",
        "Give the network with plain weights: full_tensor() of those that are sharded, "
        "dequantize() of quantised ones.",
    ),
    (
        lambda t: not t.is_floating_point(),
        "is",
        "{dtype}; only real numbers can be pruned",
        "A network that is quantised is pruned before.",
    ),
    (
        is_packed,
        "has",
        "the layout {layout}; only dense tensors can be pruned",
        "Give it as to_dense() makes it: layer.weight = nn.Parameter(layer.weight.to_dense()).",
    ),
)
