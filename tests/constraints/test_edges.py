"""Edges of constraints, by enumeration: what parts, stages, limits and restrictions leave."""

from itertools import combinations, product

import pytest
import torch

from chita.constraints import (
    Blocks,
    ByOutliers,
    Flops,
    KeepK,
    KeepKInGroups,
    NofM,
    Nonzeros,
    Quotas,
    Searched,
    Within,
)
from chita.constraints.allocation import Capacity, allocate
from chita.constraints.apportion import apportion
from chita.constraints.blocks import WholeBlocks
from chita.constraints.flops import _rounded_up
from chita.constraints.sparsity import check_share
from chita.errors import InputError
from chita.layout import Axes, Layout, Operations


def layout_of(counts, costs, fixed=0):
    names = tuple("abcd"[: len(counts)])
    each = Operations(each=tuple(costs), fixed=fixed)
    shapes, axes = tuple((count,) for count in counts), (Axes(),) * len(counts)
    return Layout(names=names, shapes=shapes, axes=axes, operations=each)


def masks(size):
    """All masks of so many weights."""
    return (torch.tensor(bits) for bits in product([False, True], repeat=size))


def test_blocks_are_split_whole():
    layout = Layout(names=("a",), shapes=((4, 4),), axes=(Axes(),))
    whole = Blocks(2, 2, sparsity=0.5).bind(layout)
    assert isinstance(whole, WholeBlocks)
    index = torch.arange(16).view(4, 4)
    for parts in ([index[:2].flatten(), index[2:].flatten()], [index[:, :2], index[:, 2:]]):
        parts = [part.flatten().sort().values for part in parts]
        split = whole.split(parts)
        assert [own.size for own in split] == [8, 8]
        allowed = [[mask for mask in masks(8) if own.allows(mask)] for own in split]
        assert list(map(len, allowed)) == [2, 2]  # one block of two in each part
        for chosen in product(*allowed):
            mask = torch.zeros(16, dtype=torch.bool)
            for part, own in zip(parts, chosen, strict=True):
                mask[part] = own
            assert whole.allows(mask)
    uneven = whole.split([index[:2, :2].flatten(), torch.arange(16)[mask_out(index[:2, :2])]])
    assert [len(own.blocks) for own in uneven] == [1, 3]


def mask_out(index):
    """All of 16 weights but those of an index."""
    mask = torch.ones(16, dtype=torch.bool)
    mask[index.flatten()] = False
    return mask


@pytest.mark.parametrize("costs", [(3, 2, 1), (5, 0, 2), (1, 1, 1)])
@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.9, 1])
@pytest.mark.parametrize("nnz", [None, 4])
def test_flops_keep_the_most_weights_that_fit(costs, share, nnz):
    counts = (3, 2, 4)
    layout = layout_of(counts, costs, fixed=1)
    weights = None if nnz is None else Nonzeros(nnz)
    budget = Flops(share, weights=weights, min_keep=0)
    whole = 1 + sum(count * cost for count, cost in zip(counts, costs, strict=True))
    fitting = [
        sum(kept)
        for kept in product(*(range(count + 1) for count in counts))
        if 1 + sum(k * cost for k, cost in zip(kept, costs, strict=True)) <= share * whole + 1e-9
        and sum(kept) <= (nnz or 9)
    ]
    assert budget.kept(layout) == max(fitting)


def test_the_share_removed_is_that_of_weights_where_these_are_limited():
    layout = layout_of((4, 6), (3, 1))
    assert Flops(0.3).removed(layout) == pytest.approx(0.7)
    assert Flops(0.3, weights=Nonzeros(4)).removed(layout) == pytest.approx(0.6)


def test_flops_bind_where_they_keep_a_weight_out():
    constraint = Flops(0.5, min_keep=0).bind(layout_of((3, 4), (3, 1)))
    costs = torch.tensor([3, 3, 3, 1, 1, 1, 1])
    seen = set()
    for mask in masks(7):
        spare = constraint.limit - int(costs[mask].sum())
        if spare < 0:
            continue
        keeps_out = bool((costs[~mask] > spare).any())
        assert constraint.binds(mask) == keeps_out
        assert constraint.cost(mask) == int(costs[mask].sum())
        seen.add(keeps_out)
    assert seen == {True, False}


@pytest.mark.parametrize("share", [0.6, 1])
def test_a_restriction_under_flops_has_what_the_kept_weights_leave(share):
    layout = layout_of((3, 3), (2, 1))
    whole = Flops(share, weights=Nonzeros(4), min_keep=1).bind(layout)
    for kept in combinations(range(6), 2):
        index = torch.tensor([i for i in range(6) if i not in kept])
        small = whole.restrict(index, torch.tensor(kept))
        for own in masks(4):
            mask = torch.zeros(6, dtype=torch.bool)
            mask[list(kept)] = True
            mask[index] = own
            assert small.allows(own) == whole.allows(mask)


def test_ties_under_flops_keep_the_lower_index():
    constraint = Flops(1, weights=Nonzeros(30), min_keep=0).bind(layout_of((40, 40), (1, 1)))
    kept = constraint.select(torch.ones(80)).nonzero().squeeze(1)
    assert kept.tolist() == list(range(30))
    free = Flops(0.5, weights=Nonzeros(5), min_keep=0).bind(layout_of((4, 6), (3, 0)))
    mask = free.select(torch.ones(10))
    assert free.allows(mask)
    assert int(mask.sum()) == 5


GROUPS = KeepKInGroups(
    size=8,
    k=5,
    members=(torch.tensor([[0, 3, 5], [1, 6, -1]]), torch.tensor([[2, 4], [7, -1]])),
    least=(torch.tensor([2, 1]), torch.tensor([1, 0])),
)
"""Groups of three, two, two and one, some of them short of a member."""


def test_a_restriction_of_uneven_groups_is_what_completes_a_mask():
    kept_sets = [(), (0,), (0, 3), (1, 2), (7,), (0, 1, 4)]
    for kept in kept_sets:
        for left_out in ((), (6,), (2, 7)):
            index = [i for i in range(8) if i not in kept + left_out]
            small = GROUPS.restrict(torch.tensor(index), torch.tensor(kept, dtype=torch.long))
            completed = []
            for own in masks(len(index)):
                mask = torch.zeros(8, dtype=torch.bool)
                mask[list(kept)] = True
                mask[index] = own
                completed.append((GROUPS.allows(mask), small.allows(own)))
            if any(whole for whole, _ in completed):
                assert all(whole == part for whole, part in completed)


def test_the_choice_among_uneven_groups_is_the_best_of_all_masks():
    generator = torch.Generator().manual_seed(0)
    allowed = [mask for mask in masks(8) if GROUPS.allows(mask)]
    assert allowed
    for _ in range(20):
        values = torch.randn(8, generator=generator)
        best = max(float(values[mask].square().sum()) for mask in allowed)
        assert float(values[GROUPS.select(values)].square().sum()) == pytest.approx(best)


@pytest.mark.parametrize("width", [2, 8, 9, 40])
def test_ties_in_a_group_of_any_size_keep_the_lower_index(width):
    members = torch.arange(3 * width).view(3, width)
    least = torch.full((3,), (width + 1) // 2)
    groups = KeepKInGroups(size=3 * width, k=int(least.sum()), members=(members,), least=(least,))
    values = torch.randint(0, 3, (3 * width,), generator=torch.Generator().manual_seed(2)).float()
    expected = []
    for row in members.tolist():
        expected += sorted(row, key=lambda i: (-float(values[i]), i))[: int(least[0])]
    assert groups.select(values).nonzero().squeeze(1).tolist() == sorted(expected)


def test_the_ceiling_within_a_mask_is_that_of_the_best_choice_inside():
    values = torch.tensor([3.0, -2.0, 5.0, 1.0, 4.0])
    inside = torch.tensor([True, True, False, True, False])
    within = Within(constraint=KeepK(size=5, k=2), mask=inside)
    best = max(
        float(values[mask].square().sum())
        for mask in masks(5)
        if int(mask.sum()) == 2 and not (mask & ~inside).any()
    )
    assert within.ceiling(values, within.select(values)) == best


def test_on_the_way_every_tensor_has_gone_the_same_part():
    layout = layout_of((8, 8), (1, 1))
    levels = {"a": [(0.75, 1.0)], "b": [(0.5, 1.0)]}
    stage = Searched(Nonzeros(6), levels=levels).on_the_way(5 / 16, layout)
    bound = stage.bind(layout)
    assert bound.k == 11
    assert bound.least == (5, 6)  # half of the way from 8 to 2, and from 8 to 4
    assert Searched(Nonzeros(6)).on_the_way(5 / 16, layout).kept(layout) == 11


def test_the_share_that_would_do_is_rounded_up_and_never_beyond_one():
    assert [_rounded_up(x) for x in (0.55001, 0.12345, 1.0)] == [0.5501, 0.1235, 1.0]
    with pytest.raises(InputError, match=r"Ask for at least 1\.0\."):
        Flops(0.5, min_keep=4).bind(layout_of((4,), (1,), fixed=1))


def test_a_share_out_of_range_is_named():
    assert check_share(0.5) == 0.5
    with pytest.raises(InputError, match=r"^`sparsity` is 1\.5"):
        check_share(1.5)
    with pytest.raises(InputError, match=r"^b\.weight: `sparsity` is -1"):
        check_share(-1, "b.weight")


@pytest.mark.parametrize("seed", range(40))
def test_numbers_between_bounds_are_those_of_one_level(seed):
    """All of them are θ·share between their bounds for one θ, but for the rounding by one."""
    generator = torch.Generator().manual_seed(seed)
    shares, ends, other = torch.randint(0, 20, (3, 6), generator=generator).tolist()
    least, most = [list(map(bound, ends, other)) for bound in (min, max)]
    total = int(torch.randint(sum(least), sum(most) + 1, (1,), generator=generator))

    def at(level):
        return [min(max(level * s, a), b) for s, a, b in zip(shares, least, most, strict=True)]

    if not sum(at(0.0)) <= total <= sum(at(1e9)):  # shares of zero fill what is left over
        total = int(sum(at(0.5)))
    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(at(middle)) < total else (low, middle)
    found = apportion(total, shares, most, least)
    assert sum(found) == total
    assert all(abs(n - x) < 1 + 1e-6 for n, x in zip(found, at(high), strict=True))


def test_on_the_way_quotas_and_patterns_keep_their_form():
    layout = Layout(names=("a", "b"), shapes=((4, 2), (2, 4)), axes=(Axes(), Axes()))
    stage = Quotas({"a": 0.75, "b": 0.25}, min_keep=0).on_the_way(0.25, layout)
    assert stage.bind(layout).least == (5, 7)  # half of the way to 2 and to 6
    half = NofM(1, 2).on_the_way(0.4, layout).on_the_way(0.25, layout)
    assert half.kept(layout) == 12
    bound = half.bind(layout)
    assert [int(own.sum()) for own in bound.least] == [4, 4]


def test_equal_shares_of_outliers_are_one_share():
    layout = layout_of((10, 20), (1, 1))
    assert ByOutliers(0.5, shares={"a": 0.2, "b": 0.2}).bind(layout).least == (5, 10)


def test_sparsities_spread_by_the_spread_whatever_the_smallest_share_is():
    layout = layout_of((100, 100), (1, 1))
    for low, high in ((0.0, 0.1), (0.1, 0.3)):
        least = ByOutliers(0.5, shares={"a": high, "b": low}, spread=0.08).bind(layout).least
        assert least == (58, 42)


@pytest.mark.parametrize("cuts", [(4,), (2, 5)])
def test_every_weight_has_one_place_in_the_groups_of_its_part(cuts):
    generator = torch.Generator().manual_seed(len(cuts))
    parts = [
        own.sort().values
        for own in torch.tensor_split(torch.randperm(8, generator=generator), cuts)
    ]
    split = GROUPS.split(parts)
    assert sum(own.k for own in split) == GROUPS.k
    for own in split:
        places = torch.cat([members.flatten() for members in own.members])
        assert int(places.min()) >= -1
        assert places[places >= 0].sort().values.tolist() == list(range(own.size))
    allowed = [[mask for mask in masks(own.size) if own.allows(mask)] for own in split]
    for chosen in product(*allowed):
        mask = torch.zeros(8, dtype=torch.bool)
        for part, own in zip(parts, chosen, strict=True):
            mask[part] = own
        assert GROUPS.allows(mask)


def test_of_equal_remainders_the_first_parts_get_one_more():
    members = torch.arange(80).view(2, 40)
    groups = KeepKInGroups(size=80, k=60, members=(members,), least=(torch.tensor([30, 30]),))
    # Two weights of each group in each of twenty parts, of which 1.5 are kept.
    parts = [torch.cat([row[2 * i : 2 * i + 2] for row in members]) for i in range(20)]
    least = [torch.cat(own.least).tolist() for own in groups.split(parts)]
    assert least == [[2, 2]] * 10 + [[1, 1]] * 10


def test_levels_that_fit_no_two_limits_at_once_are_refused():
    """Each limit alone is met by one of the two levels, and both by none."""
    levels = [[0.0, 1.0]]
    costs = [[[4, 1]], [[1, 4]]]
    limits = [Capacity(most=2, of="weights"), Capacity(most=2, of="bytes")]
    with pytest.raises(InputError, match="No combination of the levels"):
        allocate(levels, costs, limits)
    assert allocate(levels, costs[:1], limits[:1]) == (1,)
    assert allocate(levels, costs[1:], limits[1:]) == (0,)
