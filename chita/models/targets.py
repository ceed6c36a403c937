"""The weights that are pruned: rules by name, pattern and type, and the rule that decided."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import final

from torch import nn
from torch.nn.parameter import is_lazy

from chita.errors import InputError, failures_as
from chita.models.roles import Role, roles
from chita.models.tensors import check_weights
from chita.models.wrappers import check_modules, place

NO_LAYER, FROZEN = "no layer's weight", "requires no gradient: only when targeted"
SCRIPTED = "in TorchScript"
"""Rules by which a parameter is left out."""

_NAME, _PATTERN, _TYPE = 3, 2, 1
_PATTERNS = re.compile(r"^re:|[*?[]")
_KINDS_OF_RULES = "names, globs, re: patterns or types of modules"


@final
@dataclass(frozen=True, kw_only=True)
class Decision:
    """The decision whether one parameter is pruned, and the rule behind it.

    Fields: `roles`, the parameter under each of its names; `pruned`; `rule`, for people, such as
    "targets fc*" or "default: Linear"; `overruled`, the rules of `ignore` that a stronger one of
    `targets` stands against.
    """

    roles: tuple[Role, ...]
    pruned: bool
    rule: str
    overruled: tuple[str, ...] = ()

    @property
    def role(self) -> Role:
        """The first role as a weight that can be pruned, or else the first one."""
        return next((r for r in self.roles if r.weight and not r.embedding), self.roles[0])

    @property
    def frozen(self) -> bool:
        """Whether its values are numbers that require no gradient."""
        own = self.role.parameter
        return own is not None and own.is_floating_point() and not own.requires_grad

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the parameter, (0,) where it has no values of its own."""
        own = self.role.parameter
        return (0,) if own is None or is_lazy(own) or own.is_nested else tuple(own.shape)


def decide(
    model: nn.Module,
    targets: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] = (),
    *,
    frozen: bool = True,
) -> tuple[Decision, ...]:
    """Return one decision for every parameter of a network, in module order.

    A rule is the name of a parameter or of its module; a pattern: a glob (`layer*.conv?`), a
    regular expression (`re:` and what matches from the beginning of a name), or the name of a
    module around it (`encoder` means `encoder.*`); or a type: the class name of its module or of
    one around it. A name beats a pattern, and a pattern a type; on equal terms `ignore` beats
    `targets`. Without `targets`, the weights of linear, convolution, attention and recurrent
    layers are pruned, but no tensor that is also an embedding. Without `frozen`, none of these that
    requires no gradient is, unless none of them requires one. Patterns and types reach weights and
    embeddings; one that reaches none of these reaches tensors of three dimensions, as experts are.
    Other parameters are reached by their full name only.

    Raises `InputError` that lists every rule that matches nothing, and on TorchScript.
    """
    check_modules(model)
    rules = [(rule, True) for rule in _listed("targets", targets)]
    rules += [(rule, False) for rule in _listed("ignore", ignore)]
    words: dict[str | None, list[int]] = {}  # None for patterns, which may match anything
    for index, (rule, _) in enumerate(rules):
        words.setdefault(None if _PATTERNS.search(rule) else rule, []).append(index)
    groups: dict[object, list[Role]] = {}
    for role in roles(model):
        groups.setdefault(_identity(role), []).append(role)
    near = {key: _near(group, words) for key, group in groups.items()}
    layers = {
        rules[n][0] for key, group in groups.items() for n in near[key] if _most(rules[n][0], group)
    }
    matched = set()
    decisions = []
    for key, group in groups.items():
        found = []
        for rule, pruned in (rules[index] for index in near[key]):
            strength = _most(rule, group, stacks=rule not in layers)
            if strength:
                matched.add(rule)
                found.append((strength, not pruned, rule))
        decisions.append(_decision(tuple(group), found, default=targets is None))
    unmatched = [rule for rule in dict.fromkeys(rule for rule, _ in rules) if rule not in matched]
    if unmatched:
        raise _nothing_matched(unmatched, model)
    if not frozen and targets is None and not all(d.frozen for d in decisions if d.pruned):
        decisions = [
            replace(d, pruned=False, rule=FROZEN) if d.pruned and d.frozen else d for d in decisions
        ]
    return tuple(decisions)


def _identity(role: Role) -> object:
    """Return what parameters share that are one, or that lie in the same memory."""
    own = role.parameter
    return role.path if own is None else place(own) or id(own)


def _decision(
    group: tuple[Role, ...], found: list[tuple[int, bool, str]], *, default: bool
) -> Decision:
    if found:
        _, ignored, rule = max(found, key=lambda match: match[:2])
        shown = f"{'ignore' if ignored else 'targets'} {rule}"
        overruled = tuple(other for _, against, other in found if against and not ignored)
        if overruled:
            shown += f" (over ignore {', '.join(overruled)})"
        return Decision(roles=group, pruned=not ignored, rule=shown, overruled=overruled)
    weights = [role for role in group if role.weight]
    if not weights:
        scripted = any("ScriptModule" in role.kinds for role in group)
        return Decision(roles=group, pruned=False, rule=SCRIPTED if scripted else NO_LAYER)
    if any(role.embedding for role in group):
        return Decision(roles=group, pruned=False, rule="embedding: only when targeted")
    rule = f"default: {weights[0].kind}" if default else "no target matches"
    return Decision(roles=group, pruned=default, rule=rule)


def _near(group: Sequence[Role], words: Mapping[str | None, Sequence[int]]) -> list[int]:
    """Return the places, in order, of rules that may match a parameter: so many rules take no time.

    `words` are the places of each rule, and under None those of patterns.
    """
    known = {word for role in group for word in (role.name, role.path, *_around(role))}
    return sorted({index for word in (None, *known) for index in words.get(word, ())})


def _around(role: Role) -> list[str]:
    """Return the names of the modules around a parameter, and of their types."""
    return [*accumulate(role.owner.split("."), "{}.{}".format), *role.kinds, *role.around]


def _most(rule: str, group: Sequence[Role], *, stacks: bool = False) -> int:
    return max(_match(rule, role, stacks=stacks) for role in group)


def _match(rule: str, role: Role, *, stacks: bool = False) -> int:
    """Return the level at which a rule matches, 0 where it does not.

    `stacks` lets patterns and types match tensors of three dimensions, too.
    """
    names = (role.name, role.path, role.owner)
    if rule in (role.name, role.path):
        return _NAME
    if not (role.weight or (stacks and role.axes.stacked)):
        return 0
    if rule.startswith("re:"):
        return _PATTERN if any(re.match(rule[3:], name) for name in names) else 0
    if rule == role.owner:
        return _NAME
    if role.owner.startswith(f"{rule}.") or any(fnmatchcase(name, rule) for name in names):
        return _PATTERN
    return _TYPE if rule in role.kinds or rule in role.around else 0


def _listed(what: str, rules: str | Sequence[str] | None) -> list[str]:
    if not (rules is None or isinstance(rules, Iterable)) or isinstance(rules, type):
        raise InputError(f"{what} is {rules!r}; give a list of {_KINDS_OF_RULES}.")
    listed = [rules] if isinstance(rules, str) else list(rules or ())
    for rule in listed:
        if not isinstance(rule, str) or not rule.removeprefix("re:"):
            raise InputError(f'{what} holds {rule!r}; give {_KINDS_OF_RULES}, such as "Linear".')
        told = f"{what} holds {rule!r}, which is no regular expression"
        with failures_as(InputError, told, "Correct it."):
            re.compile(rule[3:] if rule.startswith("re:") else "")
    return listed


def _nothing_matched(unmatched: Sequence[str], model: nn.Module) -> InputError:
    """Return an error for rules that match nothing, with names that are close to them."""
    known: dict[str, None] = {}
    for role in roles(model):
        known |= dict.fromkeys((role.name, role.path))
        if role.weight:
            known |= dict.fromkeys(_around(role))
    parts = []
    for rule in unmatched:
        close = get_close_matches(rule.removeprefix("re:"), filter(None, known))
        parts.append(f"{rule!r}" + (f" (did you mean {' or '.join(close)}?)" if close else ""))
    return InputError(
        f"No parameter of {type(model).__name__} is matched by {', '.join(parts)}. `chita plan` "
        "lists every parameter with the rule that matched it."
    )


def check_prunable(decisions: Iterable[Decision]) -> None:
    """Raise `InputError` that names what is to be pruned and cannot be, with the way out."""
    weights = {}
    for decision in (decision for decision in decisions if decision.pruned):
        role = decision.role
        if role.parameter is None or role.computes:
            raise InputError(
                f"The weight of {role.owner or 'the network'} is computed from other parameters. "
                "Make it plain first: torch.nn.utils.parametrize.remove_parametrizations(module, "
                "'weight'), torch.nn.utils.prune.remove(module, 'weight') or "
                "torch.nn.utils.remove_weight_norm(module); or leave the layer out with `ignore`."
            )
        weights[role.name] = role.parameter
    check_weights(weights)
