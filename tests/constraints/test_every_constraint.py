"""What every constraint promises, by enumeration of all masks of small networks."""

from functools import cache
from itertools import product

import pytest
import torch

from chita.constraints import (
    Blocks,
    Flops,
    NofM,
    Nonzeros,
    PerLayer,
    PerOutput,
    Quotas,
    Sparsity,
    UnderFlops,
    Within,
)
from chita.errors import NumericalError
from chita.layout import Axes, Layout, Operations

SMALL = Layout(
    names=("a.weight", "b.weight"),
    shapes=((2, 4), (2, 2)),
    axes=(Axes(), Axes()),
    operations=Operations(each=(3, 1), fixed=2),
)
CONVOLUTION = Layout(names=("c",), shapes=((2, 2, 2),), axes=(Axes(groups=2),))
TRANSPOSED = Layout(names=("t",), shapes=((2, 3, 2),), axes=(Axes(output=1, input=0),))

BOUND = {
    "sparsity": Sparsity(0.6).bind(SMALL),
    "without floors": Nonzeros(3, min_keep=0).bind(SMALL),
    "uniform": PerLayer(0.6).bind(SMALL),
    "erk": PerLayer(0.6, distribution="erk").bind(SMALL),
    "quotas": Quotas({"a": 0.75, "b.*": 0.5}).bind(SMALL),
    "outputs": PerOutput(0.5).bind(SMALL),
    "rows of a transposed convolution": PerOutput(0.6).bind(TRANSPOSED),
    "1:2": NofM(1, 2).bind(SMALL),
    "on the way to 1:2": NofM(1, 2).on_the_way(0.3, SMALL).bind(SMALL),
    "1:2 of a grouped convolution": NofM(1, 2).bind(CONVOLUTION),
    "1:2 of a transposed convolution": NofM(1, 2).bind(TRANSPOSED),
    "blocks 2x1": Blocks(2, 1, sparsity=0.4).bind(SMALL),
    "blocks 1x2": Blocks(1, 2, sparsity=0.3, min_keep=3).bind(SMALL),
    "blocks of a convolution": Blocks(1, 2, sparsity=0.5).bind(CONVOLUTION),
    "flops": Flops(0.5).bind(SMALL),
    "flops and sparsity": Flops(0.5, weights=Sparsity(0.6)).bind(SMALL),
    "within": Within(
        constraint=Flops(0.5, weights=Nonzeros(5)).bind(SMALL),
        mask=torch.tensor([1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1]).bool(),
    ),
    "within rows": Within(
        constraint=PerOutput(0.5).bind(SMALL),
        mask=torch.tensor([1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1, 1]).bool(),
    ),
}
every = pytest.mark.parametrize("name", BOUND)


def is_additive(constraint):
    inner = getattr(constraint, "constraint", constraint)
    return not isinstance(inner, UnderFlops)


@cache
def allowed(name):
    constraint = BOUND[name]
    masks = torch.tensor(list(product([False, True], repeat=constraint.size)))
    return torch.stack([mask for mask in masks if constraint.allows(mask)])


def whole_numbers(size):
    """Values of which none, some or most are equal, and zeros among them."""
    generator = torch.Generator().manual_seed(size)
    yield torch.zeros(size).double()
    yield torch.ones(size).double()
    for most in (1, 3, 20):
        for _ in range(10):
            yield torch.randint(-most, most + 1, (size,), generator=generator).double()


@every
def test_the_choice_is_the_best_of_all_allowed(name):
    for values in whole_numbers(BOUND[name].size):
        check_choice(name, values)


def check_choice(name, v):
    constraint = BOUND[name]
    mask = constraint.select(v)
    assert constraint.allows(mask)
    best = float((allowed(name) * v**2).sum(1).max())
    ceiling = constraint.ceiling(v, mask)
    assert ceiling >= best - 1e-9
    if is_additive(constraint):  # the others are programmes in integers, solved to within a weight
        assert float((v**2)[mask].sum()) == best == ceiling
    assert torch.equal(mask, constraint.select(v))
    assert torch.equal(mask, constraint.select(-v))


@every
def test_a_weight_too_many_is_refused(name):
    constraint = BOUND[name]
    mask = constraint.select(torch.arange(1.0, constraint.size + 1))
    for i in (~mask).nonzero().flatten():
        more = mask.clone()
        more[i] = True
        assert not constraint.allows(more)
    fewer = mask.clone()
    fewer[mask.nonzero()[0]] = False
    assert not constraint.allows(fewer)
    assert not constraint.allows(torch.ones_like(mask))


@every
def test_swaps_are_those_whose_result_is_allowed(name):
    constraint = BOUND[name]
    mask = constraint.select(torch.randn(constraint.size))
    out, enter = mask.nonzero().flatten(), (~mask).nonzero().flatten()
    found = constraint.swaps(mask, out, enter)
    assert (found.shape, found.dtype) == ((len(out), len(enter)), torch.bool)
    for a, i in enumerate(out):
        for b, j in enumerate(enter):
            other = mask.clone()
            other[i], other[j] = False, True
            assert bool(found[a, b]) == constraint.allows(other)


@pytest.mark.parametrize("name", [name for name in BOUND if "blocks" not in name])
def test_a_restriction_completes_to_an_allowed_mask(name):
    size = BOUND[name].size
    for share in (0.0, 0.2, 0.5, 0.8, 1.0):
        for _ in range(6 if 0 < share < 1 else 1):
            check_restriction(BOUND[name], torch.rand(size) < share)


def check_restriction(constraint, inside):
    """Choose inside what the restriction selects; outside the mask stays as it was."""
    mask = constraint.select(torch.randn(constraint.size))
    index, kept = inside.nonzero().flatten(), (mask & ~inside).nonzero().flatten()
    small = constraint.restrict(index, kept)
    whole = mask & ~inside
    whole[index] = small.select(torch.randn(len(index)))
    if is_additive(constraint):
        assert constraint.allows(whole)
    else:  # what was left out outside may fit now
        assert small.allows(whole[index])


@pytest.mark.parametrize("name", [name for name in BOUND if "blocks" in name])
def test_blocks_are_restricted_whole(name):
    constraint = BOUND[name]
    mask = constraint.select(torch.randn(constraint.size))
    inside = torch.zeros_like(mask)
    inside[constraint.blocks[::2].flatten()] = True
    removed = next(block for block in constraint.blocks if not mask[block].any())
    inside[removed] = True
    for cut in (False, True):
        inside[removed[0]] = not cut  # a block that is inside in part can only be removed
        index, kept = inside.nonzero().flatten(), (mask & ~inside).nonzero().flatten()
        whole = mask & ~inside
        whole[index] = constraint.restrict(index, kept).select(torch.ones(len(index)))
        assert constraint.allows(whole)
        assert not (cut and whole[removed].any())


@every
def test_nan_has_no_rank(name):
    values = torch.ones(BOUND[name].size)
    values[0] = torch.nan
    with pytest.raises(NumericalError, match="NaN, which has no rank"):
        BOUND[name].select(values)
