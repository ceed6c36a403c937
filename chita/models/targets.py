"""Which weights are pruned: rules by name, pattern and type, and the rule that decided."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import accumulate
from typing import final

from torch import nn

from chita.errors import InputError
from chita.models.roles import Role, computes_others, roles

_NAME, _PATTERN, _TYPE = 3, 2, 1


@final
@dataclass(frozen=True, kw_only=True)
class Decision:
    """What happens to one parameter, and by which rule.

    Fields: `roles`, the parameter under each of its names; `pruned`; `rule`, for people, such as
    "targets fc*" or "default: Linear".
    """

    roles: tuple[Role, ...]
    pruned: bool
    rule: str

    @property
    def role(self) -> Role:
        """The first role as a weight that can be pruned, or else the first one."""
        return next((r for r in self.roles if r.weight and not r.embedding), self.roles[0])

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the parameter, () where a module computes the weight."""
        return () if self.role.parameter is None else tuple(self.role.parameter.shape)


def decide(
    model: nn.Module,
    targets: str | Sequence[str] | None = None,
    ignore: str | Sequence[str] = (),
) -> tuple[Decision, ...]:
    """Return one decision for every parameter of a network, in module order.

    A rule is a name (of a parameter, a module, or a module around it), a glob (`layer*.conv?`),
    a regular expression (`re:` and what matches from the beginning of a name), or the class name
    of a module. Where several match, a name beats a pattern, a pattern a type, and a longer name
    a shorter one; on equal terms `ignore` beats `targets`. Without `targets`, the weights of
    linear, convolution, attention and recurrent layers are pruned, but no tensor that is also an
    embedding. Patterns and types reach weights and embeddings; other parameters are reached by
    their full name alone.

    Raises `InputError` that lists every rule that matches nothing.
    """
    rules = [(rule, True) for rule in _listed("targets", targets)]
    rules += [(rule, False) for rule in _listed("ignore", ignore)]
    groups: dict[object, list[Role]] = {}
    for role in roles(model):
        same = id(role.parameter) if role.parameter is not None else role.name
        groups.setdefault(same, []).append(role)
    matches = {rule: 0 for rule, _ in rules}
    decisions = []
    for group in groups.values():
        found = []
        for rule, pruned in rules:
            strength = max(_match(rule, role) for role in group)
            if strength > (0, 0):
                matches[rule] += 1
                found.append((strength, not pruned, rule))
        decisions.append(_decision(tuple(group), found, default=targets is None))
    _check_matched([rule for rule, count in matches.items() if not count], model)
    return tuple(decisions)


def _decision(
    group: tuple[Role, ...], found: list[tuple[tuple[int, int], bool, str]], *, default: bool
) -> Decision:
    if found:
        _, ignored, rule = max(found, key=lambda match: match[:2])
        told = f"{'ignore' if ignored else 'targets'} {rule}"
        overruled = [other for _, against, other in found if against and not ignored]
        if overruled:
            told += f" (over ignore {', '.join(overruled)})"
        return Decision(roles=group, pruned=not ignored, rule=told)
    weights = [role for role in group if role.weight]
    if not weights:
        return Decision(roles=group, pruned=False, rule="no layer's weight")
    if any(role.embedding for role in group):
        return Decision(roles=group, pruned=False, rule="embedding: only when targeted")
    rule = f"default: {weights[0].kind}" if default else "no target matches"
    return Decision(roles=group, pruned=default, rule=rule)


def _match(rule: str, role: Role) -> tuple[int, int]:
    """How strongly a rule matches: its level, and within names the length; (0, 0) for not."""
    names = (role.name, role.owner)
    if rule == role.name:
        return _NAME, len(rule)
    if not role.weight:
        return 0, 0
    if rule.startswith("re:"):
        return (_PATTERN, 0) if any(re.match(rule[3:], name) for name in names) else (0, 0)
    if rule == role.owner or role.owner.startswith(f"{rule}."):
        return _NAME, len(rule)
    if any(letter in rule for letter in "*?["):
        return (_PATTERN, 0) if any(fnmatchcase(name, rule) for name in names) else (0, 0)
    return (_TYPE, 0) if rule in role.kinds else (0, 0)


def _listed(what: str, rules: str | Sequence[str] | None) -> list[str]:
    listed = [rules] if isinstance(rules, str) else list(rules or ())
    for rule in listed:
        if not isinstance(rule, str) or not rule.removeprefix("re:"):
            raise InputError(
                f"{what} holds {rule!r}; give names, globs, re: patterns or types of modules."
            )
        try:
            re.compile(rule[3:] if rule.startswith("re:") else "")
        except re.error as error:
            raise InputError(
                f"{what} holds {rule!r}, which is no regular expression: {error}. Correct it."
            ) from None
    return listed


def _check_matched(unmatched: Iterable[str], model: nn.Module) -> None:
    unmatched = list(unmatched)
    if not unmatched:
        return
    known: dict[str, None] = {}
    for role in roles(model):
        known[role.name] = None
        if role.weight:
            around = list(accumulate(role.owner.split("."), "{}.{}".format))
            known |= dict.fromkeys([*around, *role.kinds])
    parts = []
    for rule in unmatched:
        close = get_close_matches(rule.removeprefix("re:"), filter(None, known))
        parts.append(f"{rule!r}" + (f" (did you mean {' or '.join(close)}?)" if close else ""))
    raise InputError(
        f"No parameter of {type(model).__name__} is matched by {', '.join(parts)}. `chita plan` "
        "lists every parameter with the rule that matched it."
    )


def check_prunable(decisions: Iterable[Decision]) -> None:
    """Raise `InputError` that names what is to be pruned and cannot be, with the way out."""
    for decision in decisions:
        role = decision.role
        if not decision.pruned:
            continue
        if role.parameter is None or computes_others(role.name):
            raise InputError(
                f"The weight of {role.owner or 'the network'} is computed from other parameters. "
                "Make it plain first: torch.nn.utils.parametrize.remove_parametrizations(module, "
                "'weight'), torch.nn.utils.prune.remove(module, 'weight') or "
                "torch.nn.utils.remove_weight_norm(module); or leave the layer out with --ignore."
            )
        if role.parameter.is_meta or isinstance(role.parameter, nn.UninitializedParameter):
            raise InputError(
                f"{role.name} has no values yet. Run the network once, or load weights."
            )
        if not role.parameter.is_floating_point():
            raise InputError(
                f"{role.name} is {role.parameter.dtype}; only real numbers can be pruned. Leave "
                "it out with --ignore."
            )
