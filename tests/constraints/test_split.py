"""A constraint met part by part, by enumeration."""

from itertools import product

import pytest
import torch

from chita.constraints import Divisible, FixedMasks, KeepK, NofM, PerOutput, Sparsity
from chita.errors import InputError
from chita.layout import Axes, Layout
from tests.constraints.test_every_constraint import BOUND, SMALL

BOTH = {
    **{name: bound for name, bound in BOUND.items() if isinstance(bound, Divisible)},
    "masks": FixedMasks(
        masks={"a.weight": torch.rand(2, 4) < 0.5, "b.weight": torch.ones(2, 2).bool()}
    ).bind(SMALL),
}
CUTS = [(5,), (2, 7), (1, 2, 3)]


def parts_of(size, cuts, generator=None):
    order = torch.arange(size) if generator is None else torch.randperm(size, generator=generator)
    inside = [cut for cut in cuts if cut < size]
    return [part.sort().values for part in torch.tensor_split(order, inside)]


def cuts_a_block(whole, parts):
    """Whether a part holds some of a block and not all of it."""
    blocks = getattr(whole, "blocks", torch.zeros(0, 1))
    inside = [torch.isin(blocks, part) for part in parts]
    return any(bool((found.any(1) & ~found.all(1)).any()) for found in inside)


@pytest.mark.parametrize("name", BOTH)
def test_what_parts_allow_is_allowed_together(name, subtests):
    for cuts, shuffled in product(CUTS, (False, True)):
        with subtests.test(cuts=cuts, shuffled=shuffled):
            check_parts(BOTH[name], cuts, shuffled)


def check_parts(whole, cuts, shuffled):
    generator = torch.Generator().manual_seed(len(cuts)) if shuffled else None
    parts = parts_of(whole.size, cuts, generator)
    if cuts_a_block(whole, parts):
        with pytest.raises(InputError, match="some lie in several parts"):
            whole.split(parts)
        return
    split = whole.split(parts)
    for own, part in zip(split, parts, strict=True):
        assert own.size == len(part)
    for _ in range(6):
        mask = torch.zeros(whole.size, dtype=torch.bool)
        for own, part in zip(split, parts, strict=True):
            chosen = own.select(torch.randn(len(part)))
            assert own.allows(chosen)
            mask[part] = chosen
        assert whole.allows(mask)


def test_shares_are_proportional():
    for sizes, k in product([(4, 4, 4), (1, 5, 6), (3, 9)], range(13)):
        parts = list(torch.arange(12).split(list(sizes)))
        kept = [own.k for own in KeepK(size=12, k=k).split(parts)]
        assert sum(kept) == k
        assert all(abs(a - k * b / 12) < 1 for a, b in zip(kept, sizes, strict=True))


def test_layers_have_the_same_share_and_their_floors():
    layout = Layout(
        names=("a", "b", "c"), shapes=((10, 10), (2, 2), (30, 10)), axes=(Axes(), Axes(), Axes())
    )
    parts = [torch.arange(s.start, s.stop) for s in layout.segments]
    split = Sparsity(0.9, min_keep=2).bind(layout).split(parts)
    assert [own.k for own in split] == [10, 2, 28]
    for budget in (NofM(1, 2), PerOutput(0.5)):
        split = budget.bind(layout).split(parts)
        assert [own.k for own in split] == [50, 2, 150]
        for own, part in zip(split, parts, strict=True):
            mask = own.select(torch.randn(len(part)))
            assert bool((mask.view(-1, 2).sum(1) == 1).all()) or isinstance(budget, PerOutput)


def test_groups_cut_in_two_keep_their_share_on_each_side():
    """Of ten rows of eight, 4 kept of each: a part that has two entries of each keeps one."""
    layout = Layout(names=("a",), shapes=((10, 8),), axes=(Axes(),))
    flat = torch.arange(80).view(10, 8)
    parts = [flat[:, :2].flatten(), flat[:, 2:].flatten()]
    first, second = PerOutput(0.5).bind(layout).split(parts)
    assert (first.k, second.k) == (10, 30)
    assert bool((first.select(torch.randn(20)).view(10, 2).sum(1) == 1).all())
    assert bool((second.select(torch.randn(60)).view(10, 6).sum(1) == 3).all())
