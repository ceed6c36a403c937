"""Samples drawn stage after stage, and those held out."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from chita.data.examples import Examples
from chita.data.sampler import draw, make_sampler
from chita.errors import InputError

X = torch.arange(50.0).unsqueeze(1).expand(50, 2).contiguous()
Y = torch.arange(50)


def loader(**options):
    return DataLoader(TensorDataset(X, Y), batch_size=7, **options)


def generated():
    """Batches from a generator function: closing the iterator would end it."""

    class Generated:
        def __iter__(self):
            for start in range(0, 50, 7):
                yield X[start : start + 7], Y[start : start + 7]

    return Generated()


KINDS = {
    "pair": lambda: (X, Y),
    "loader": loader,
    "shuffled": lambda: loader(shuffle=True),
    "generated": generated,
}


def numbers(examples):
    return torch.cat([part[1] for part in examples.parts]).tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [4, 7, 11, 40])
def test_draws_give_all_samples_before_any_again_and_none_held_out(kind, count):
    sampler = make_sampler(KINDS[kind](), seed=4, validation=10)
    held = numbers(sampler.validation)
    assert len(set(held)) == 10
    whole_draws = 40 // count
    for _ in range(3):
        drawn = [n for _ in range(whole_draws) for n in numbers(sampler.draw(count))]
        assert len(set(drawn)) == len(drawn) == count * whole_draws
        assert not set(drawn) & set(held)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_draws_whatever_else_is_drawn(kind):
    first, again = (make_sampler(KINDS[kind](), seed=4, validation=5) for _ in range(2))
    assert numbers(first.validation) == numbers(again.validation)
    for _ in range(6):
        torch.rand(3)
        drawn = numbers(first.draw(13))
        torch.rand(5)
        assert numbers(again.draw(13)) == drawn
    assert numbers(first.some(9)) == numbers(again.some(9))


@pytest.mark.parametrize("kind", KINDS)
def test_some_are_the_same_whenever_asked_and_never_those_held_out(kind):
    sampler = make_sampler(KINDS[kind](), seed=4, validation=5)
    some = numbers(sampler.some(9))
    sampler.draw(20)
    assert numbers(sampler.some(9)) == some
    assert sorted(numbers(sampler.some(100)) + numbers(sampler.validation)) == list(range(50))


@pytest.mark.parametrize("kind", KINDS)
def test_holding_out_nothing_leaves_draws_as_they_were(kind):
    sampler = make_sampler(KINDS[kind](), seed=4)
    assert sampler.validation is None
    assert numbers(sampler.draw(20)) == numbers(draw(KINDS[kind](), 20, 4))


def test_samples_in_memory_come_in_a_new_order_when_all_were_drawn():
    sampler = make_sampler((X, Y), seed=4)
    assert numbers(sampler.draw(50)) != numbers(sampler.draw(50))


@pytest.mark.parametrize("kind", KINDS)
def test_too_few(kind):
    with pytest.raises(InputError, match=r"need 41 samples.*10 for validation.*hold 50"):
        make_sampler(KINDS[kind](), seed=4, validation=10).draw(41)
    with pytest.raises(InputError, match="hold 50"):
        make_sampler(KINDS[kind](), seed=4, validation=60)


def test_splits_of_several_parts():
    parts = [(X[:4], Y[:4]), (X[4:9, :1], Y[4:9]), (X[9:], Y[9:])]
    for count in (1, 4, 6, 9, 30):
        kept, others = Examples(*parts).split(count)
        assert numbers(kept) == list(range(count))
        assert numbers(others) == list(range(count, 50))
    assert Examples(*parts).split(50)[1] is None


class Order:
    """The order of a pass, by a generator of its own kind."""

    def __init__(self, shuffled):
        self.rng, self._shuffled = np.random.default_rng(3), shuffled

    def __len__(self):
        return 50

    def __iter__(self):
        return iter(self._shuffled(self))


def _by_python(_):
    order = list(range(50))
    random.shuffle(order)
    return order


def _by_numpy(_):
    return np.random.permutation(50).tolist()  # noqa: NPY002 (as users do)


OWN_ORDERS = {
    "generator": lambda: loader(shuffle=True, generator=torch.Generator().manual_seed(1)),
    "python": lambda: loader(sampler=Order(_by_python)),
    "numpy": lambda: loader(sampler=Order(_by_numpy)),
    "attribute": lambda: loader(sampler=Order(lambda own: own.rng.permutation(50).tolist())),
}


@pytest.mark.parametrize("kind", OWN_ORDERS)
def test_a_loader_with_an_order_of_its_own_gives_no_validation_sample_again(kind):
    sampler = make_sampler(OWN_ORDERS[kind](), seed=4, validation=10)
    held = set(numbers(sampler.validation))
    state = random.getstate()
    drawn = [n for _ in range(6) for n in numbers(sampler.draw(13))]
    epochs = [y for number in range(2) for _, ys in sampler.epoch(number, 7) for y in ys.tolist()]
    assert not held & {*drawn, *epochs, *numbers(sampler.some(40))}
    assert random.getstate() == state


def test_an_order_that_cannot_be_repeated_is_refused_only_beside_validation():
    def entropy(_):
        return np.random.default_rng().permutation(50).tolist()

    sampler = make_sampler(loader(sampler=Order(entropy)), seed=4, validation=10)
    with pytest.raises(InputError, match=r"other samples at each reading.*`validation=0`"):
        sampler.some(5)
    make_sampler(loader(sampler=Order(entropy)), seed=4).some(5)
