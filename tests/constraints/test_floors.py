from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import chita
from chita.constraints import Exactly, FixedMasks, KeepK, Nonzeros, Sparsity
from chita.errors import InputError
from chita.layout import Axes, Layout

COUNTS = st.lists(st.integers(1, 4), min_size=1, max_size=4)


def layout_of(counts):
    names = tuple(f"t{i}" for i in range(len(counts)))
    return Layout(names=names, shapes=tuple((c,) for c in counts), axes=(Axes(),) * len(counts))


@st.composite
def constraints(draw):
    layout = layout_of(draw(COUNTS))
    least = tuple(draw(st.integers(0, count)) for count in layout.counts)
    k = draw(st.integers(max(1, sum(least)), layout.size))
    scores = draw(st.lists(st.integers(0, 3), min_size=layout.size, max_size=layout.size))
    return (
        KeepK(size=layout.size, k=k, segments=layout.segments, least=least),
        torch.tensor(scores, dtype=torch.float32),
    )


def allowed(constraint):
    """Every allowed mask, by enumeration."""
    for chosen in combinations(range(constraint.size), constraint.k):
        mask = torch.zeros(constraint.size, dtype=torch.bool)
        mask[list(chosen)] = True
        parts = [int(mask[s].sum()) for s in constraint.segments]
        if all(part >= least for part, least in zip(parts, constraint.least, strict=True)):
            yield mask


@given(constraints())
@settings(deadline=None)
def test_selection_is_the_best_of_all_allowed_masks(drawn):
    constraint, scores = drawn
    mask = constraint.select(scores.sqrt())
    every = list(allowed(constraint))
    assert any(torch.equal(mask, other) for other in every)
    assert constraint.allows(mask)
    assert float(scores[mask].sum()) == max(float(scores[other].sum()) for other in every)
    assert torch.equal(mask, constraint.select(scores.sqrt()))


@given(constraints(), st.data())
@settings(deadline=None)
def test_a_restriction_completes_to_an_allowed_mask(drawn, data):
    """Fix the mask of some weights; any choice of the restriction for the rest is allowed."""
    constraint, scores = drawn
    mask = constraint.select(scores.sqrt())
    inside = torch.tensor(
        data.draw(st.lists(st.booleans(), min_size=len(mask), max_size=len(mask)))
    )
    index = inside.nonzero().squeeze(1)
    kept = (mask & ~inside).nonzero().squeeze(1)
    small = constraint.restrict(index, kept)
    assert small.size == len(index)
    whole = mask & ~inside
    whole[index] = small.select(scores[index].flip(0).sqrt())
    assert constraint.allows(whole)


def test_ties_go_to_the_lower_index_within_the_floors():
    constraint = KeepK(size=4, k=2, segments=(slice(0, 2), slice(2, 4)), least=(0, 1))
    assert constraint.select(torch.ones(4)).tolist() == [True, False, True, False]


def test_floors_are_capped_by_small_tensors_and_refused_beyond_the_budget():
    layout = layout_of([5, 2])
    bound = Nonzeros(5, min_keep=3).bind(layout)
    assert (bound.least, bound.k) == ((3, 2), 5)
    with pytest.raises(InputError, match="5 at least over 2 tensors"):
        Nonzeros(4, min_keep=3).bind(layout)
    assert isinstance(Sparsity(0.5, min_keep=0).bind(layout), KeepK)
    for bad in (-1, 1.5, "2", None):
        with pytest.raises(InputError, match="`min_keep` is"):
            Sparsity(0.5, min_keep=bad)


@given(COUNTS.filter(lambda counts: sum(counts) > len(counts)), st.data())
@settings(deadline=None, max_examples=40)
def test_counts_and_floors_hold_through_the_whole_path(counts, data):
    model = torch.nn.ModuleList(torch.nn.Linear(2 * count, 1, bias=False) for count in counts)
    floor = data.draw(st.integers(0, 3))
    least = [min(floor, 2 * count) for count in counts]
    k = data.draw(st.integers(max(1, sum(least)), 2 * sum(counts)))
    result = chita.prune(model, budget=Nonzeros(k, min_keep=floor), solver="magnitude")
    kept = [int(mask.sum()) for mask in result.masks.values()]
    assert sum(kept) == k == result.record.nnz
    assert all(found >= least for found, least in zip(kept, least, strict=True))


def test_a_layer_that_would_collapse_keeps_its_largest_weight():
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 3, bias=False), torch.nn.Linear(3, 2, bias=False)
    )
    with torch.no_grad():
        model[1].weight.mul_(1e-6)
    kept = {
        n: chita.prune(model, budget=Nonzeros(5, min_keep=n), solver="magnitude") for n in (0, 1, 2)
    }
    assert [int(r.masks["1.weight"].sum()) for r in kept.values()] == [0, 1, 2]
    assert [r.layers[1].dead_outputs for r in kept.values()] == [2, 1, int(
        (~kept[2].masks["1.weight"].any(1)).sum()
    )]  # fmt: skip
    largest = model[1].weight.abs().argmax()
    assert bool(kept[1].masks["1.weight"].flatten()[largest])


def test_a_fixed_mask_is_the_only_one_allowed():
    masks = {"t0": torch.tensor([True, False]), "t1": torch.tensor([0, 1, 1])}
    bound = FixedMasks(masks).bind(layout_of([2, 3]))
    assert isinstance(bound, Exactly)
    assert (bound.size, FixedMasks(masks).kept(layout_of([2, 3]))) == (5, 3)
    mask = bound.select(torch.rand(5))
    assert mask.tolist() == [True, False, False, True, True]
    assert bound.allows(mask)
    assert not bound.allows(~mask)
    assert bound.restrict(torch.tensor([1, 3]), torch.tensor([0])).mask.tolist() == [False, True]
    with pytest.raises(InputError, match="t0 has shape"):
        FixedMasks(masks).bind(layout_of([3, 3]))
    with pytest.raises(InputError, match="keep no weight"):
        FixedMasks({"t0": torch.zeros(2)})


@given(constraints())
@settings(deadline=None)
def test_swaps_are_those_whose_result_is_allowed(drawn):
    constraint, scores = drawn
    mask = constraint.select(scores.sqrt())
    out, enter = mask.nonzero().flatten(), (~mask).nonzero().flatten()
    unbounded = KeepK(size=constraint.size, k=constraint.k)
    for kind in (constraint, unbounded, Exactly(mask=mask)):
        allowed_swaps = kind.swaps(mask, out, enter)
        assert allowed_swaps.shape == (len(out), len(enter))
        for a, i in enumerate(out):
            for b, j in enumerate(enter):
                other = mask.clone()
                other[i], other[j] = False, True
                assert bool(allowed_swaps[a, b]) == kind.allows(other)
