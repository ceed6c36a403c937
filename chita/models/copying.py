"""Copies of networks, which use nothing of the networks that they were made of."""

from __future__ import annotations

import copy
import dis
import gc
from collections.abc import Collection, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import ReferenceType

from torch import Tensor, nn
from torch.fx import Graph

from chita.errors import InputError, failures_as
from chita.imports import cause
from chita.models.wrappers import place
from chita.naming import listed

_TORCHS_OWN = {*vars(nn.Module())}  # attributes that every module has
_FOLLOWED = (nn.Module, Tensor, MethodType, dict, list, tuple)  # kinds of global variables


def copied(
    model: nn.Module,
    advice: str = "Pass inplace=True to prune it itself.",
    *,
    written: Collection[str] = (),
) -> nn.Module:
    """Return a copy of a network, of which the parameters `written` may be changed.

    Raises `InputError`, with advice, where it cannot be copied, or where a copy would use what the
    network holds: functions are not copied, and may refer to it.
    """
    # Modules may define how they are copied, and fail in any way.
    with failures_as(InputError, f"{type(model).__name__} cannot be copied", advice, why=cause):
        made = copy.deepcopy(model)
    parameters = (dict(net.named_parameters(remove_duplicate=False)) for net in (model, made))
    given, own = ({name: place(p) for name, p in named.items()} for named in parameters)
    lost = [name for name in written if not _is_parameter(made, name)]
    if lost:
        raise InputError(
            f"A copy of {type(model).__name__} has no parameters {listed(lost, 5)}, as TorchScript "
            f"copies them. {advice}"
        )
    shared = [name for name in written if given[name] is not None and given[name] == own.get(name)]
    if shared:
        raise InputError(
            f"A copy of {type(model).__name__} shares {listed(shared, 5)} with the network, as its "
            f"__deepcopy__ has it, so pruning the copy would change both. {advice}"
        )
    _check_apart(made, model, advice)
    return made


def _is_parameter(model: nn.Module, path: str) -> bool:
    owner, _, name = path.rpartition(".")
    return isinstance(getattr(model.get_submodule(owner), name, None), nn.Parameter)


def _check_apart(made: nn.Module, model: nn.Module, advice: str) -> None:
    """Raise `InputError` where a copy refers to a part of the network that it was made of."""
    parts = {id(part): f"{name} of the network" for name, part in _parts(model)}
    parts[id(model)] = "the network itself"
    for _, part in _parts(made):  # its __deepcopy__ may share parts on purpose
        parts.pop(id(part), None)
    seen: dict[int, Any] = {id(module): module for module in made.modules()}
    for name, module in made.named_modules():
        left = [(held, "an object") for held in _held(module)]
        while left:
            value, by = left.pop()
            if id(value) in parts:
                raise InputError(
                    f"{name or 'The network'} ({type(module).__name__}) holds {by} that refers to "
                    f"{parts[id(value)]}, so a copy would use that one and not its own. Make it a "
                    "method of a module, set it after pruning, or define __deepcopy__. "
                    f"{advice}"
                )
            if id(value) not in seen:
                seen[id(value)] = value  # kept, so that no other object gets its number
                by = f"the function {value.__name__}" if isinstance(value, FunctionType) else by
                left += [(held, by) for held in _referents(value)]


def _parts(model: nn.Module) -> Iterator[tuple[str, object]]:
    """Iterate over modules, tensors, and the lists, sets and dicts in attributes, with names."""
    for path, module in model.named_modules():
        yield path, module
        for name, held in vars(module).items():
            if isinstance(held, (dict, list, set)) and name not in _TORCHS_OWN:
                yield f"{path}.{name}".lstrip("."), held
    yield from model.named_parameters()
    yield from model.named_buffers()


def _held(module: nn.Module) -> list[object]:
    """Return what a module holds: in attributes, and in functions of its class."""
    kinds = type(module).__mro__
    functions = [held for kind in kinds for held in vars(kind).values()]
    closures = [f.__closure__ for f in functions if isinstance(f, FunctionType) and f.__closure__]
    return [vars(module), *closures]


def _referents(value: Any) -> list[Any]:
    """Return the objects that a value refers to; of a function, what it may use."""
    if isinstance(value, (type, ModuleType, Graph)):  # a graph is what its code was written from
        return []
    if isinstance(value, ReferenceType):
        return [value()]
    if not isinstance(value, FunctionType):
        return gc.get_referents(value)
    used = (value.__globals__.get(name) for name in _global_names(value.__code__))
    own = [value.__closure__, value.__defaults__, value.__kwdefaults__, vars(value)]
    return [*own, *(held for held in used if isinstance(held, _FOLLOWED))]


def _global_names(code: CodeType) -> Iterator[str]:
    """Iterate over the names of global variables that a function reads."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)
