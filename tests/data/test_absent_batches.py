"""Batches of nothing, as a `collate_fn` gives where it drops all samples, end no data."""

import pytest
import torch
from torch.utils.data import DataLoader

import chita
from chita.data.batches import batches_of
from chita.data.examples import Examples
from chita.data.sampler import make_sampler
from chita.errors import InputError

X, Y = torch.arange(24.0).unsqueeze(1), torch.arange(24) % 3
PAIRS = [(X[i : i + 4], Y[i : i + 4]) for i in range(0, 24, 4)]
EMPTY = (X[:0], Y[:0])


class Loader:
    """Batches from a generator, every other one absent."""

    def __iter__(self):
        for pair in PAIRS:
            yield None
            yield pair


def dropped(samples):
    """A collate function that drops the samples 4 to 7."""
    kept = [n for n in samples if n not in range(4, 8)]
    return (X[kept], Y[kept]) if kept else None


KINDS = {
    "first": [None, None, *PAIRS],
    "within": [*PAIRS[:2], None, *PAIRS[2:]],
    "last": [*PAIRS, None],
    "empty": [*PAIRS[:2], EMPTY, *PAIRS[2:]],
    "loader": Loader(),
}


def numbers(batches):
    return torch.cat([batch[0].flatten() for batch in batches]).int().tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_all_samples_are_read_drawn_and_trained_on(kind):
    data = KINDS[kind]
    assert numbers(batches_of(data, 4)) == list(range(24))
    sampler = make_sampler(data, seed=0, validation=4)
    assert numbers(sampler.validation.parts) == list(range(4))
    assert numbers(sampler.draw(20).parts) == list(range(4, 24))
    assert numbers(sampler.epoch(0, 4)) == list(range(4, 24))
    assert sampler.batches(4) == 5


def test_a_loader_that_drops_samples():
    data = DataLoader(range(24), batch_size=4, collate_fn=dropped)
    assert len(numbers(batches_of(data, 4))) == 20
    assert len(make_sampler(data, seed=0).draw(20)) == 20


def test_the_measure_is_that_of_the_batches_there_are():
    network = torch.nn.Linear(1, 3)

    def mean(model, batch):
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

    for loss in (None, mean):
        expected = chita.evaluate(network, PAIRS, loss=loss)
        assert chita.evaluate(network, [None, *PAIRS, EMPTY, None], loss=loss) == expected


def test_samples_in_memory():
    assert len(Examples(None, *PAIRS, None)) == 24
    with pytest.raises(InputError, match="no sample"):
        Examples(None)


def test_nothing_at_all():
    with pytest.raises(InputError, match="no batch, or None"):
        chita.evaluate(torch.nn.Linear(1, 3), [None, EMPTY])
    with pytest.raises(InputError, match="hold 0"):
        make_sampler([None, None], seed=0).draw(1)
