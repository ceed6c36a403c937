"""A part of the samples: each with the same chance, in their order, the same for one seed."""

from collections import Counter

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from chita import nested
from chita.data.drawn import drawn
from chita.data.examples import Examples, as_examples

X = torch.arange(12.0).view(12, 1)


class Files:
    """Samples that are read when they are asked for; it knows which were."""

    def __init__(self):
        self.read = []

    def __len__(self):
        return len(X)

    def take(self, index):
        self.read += index.tolist()
        return Examples((X[index], X[index]))

    def batches(self, size):
        for index in torch.arange(len(X)).split(size):
            yield self.take(index).batch


def loader():
    return DataLoader(TensorDataset(X, X), 5, shuffle=True)


KINDS = {
    "at once": lambda: (X, X),
    "by index": Files,
    "batches": lambda: [(part, part) for part in X.split(5)],
    "shuffled": loader,
}


def values(data):
    batches = (as_examples(data) or data).batches(2)
    return [value for x, _ in batches for value in x[:, 0].tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_one_seed_gives_the_same_samples(kind):
    data = KINDS[kind]()
    first, total = drawn(data, 4, seed=3)
    assert (len(first), total) == (4, 12)
    torch.rand(1)
    assert values(drawn(KINDS[kind](), 4, seed=3)[0]) == values(first)
    assert len({tuple(values(drawn(data, 4, seed)[0])) for seed in range(5)}) > 1


@pytest.mark.parametrize("kind", ["at once", "batches"])
def test_every_sample_has_the_same_chance_and_keeps_its_place(kind):
    data, times = KINDS[kind](), Counter()
    for seed in range(400):
        found = values(drawn(data, 3, seed)[0])
        assert found == sorted(set(found))
        times.update(found)
    # Binomial of 400 and a quarter: five deviations of 8.7 to each side.
    assert len(times) == 12
    assert all(abs(count - 100) < 44 for count in times.values())


def test_samples_by_index_are_read_when_they_are_used():
    data = Files()
    found, _ = drawn(data, 4, seed=0)
    assert data.read == []
    used = values(found)
    assert data.read == used
    assert len(found.take(torch.tensor([2, 0]))) == 2
    assert data.read[-2:] == [used[2], used[0]]


@pytest.mark.parametrize("count", [12, 50])
def test_few_are_all(count):
    batches = KINDS["batches"]()
    assert drawn(batches, count, 0) == (batches, 12)
    assert values(drawn((X, X), count, 0)[0]) == X[:, 0].tolist()


def test_batches_keep_their_generator_and_no_batch_is_kept_for_a_sample():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    found, _ = drawn(loader(), 1, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    parts = [t for part in found.parts for t in nested.tensors(part)]
    assert all(t.untyped_storage().nbytes() == t.nbytes for t in parts)


def test_what_cannot_be_told_apart_is_drawn_whole():
    graphs = [{"x": torch.full((n, 2), float(n)), "edge": torch.zeros(2, n + 1)} for n in (3, 4, 5)]
    found, total = drawn(graphs, 2, seed=0)
    assert total == 3
    assert [len(part["x"]) for part in found.parts] in ([3, 4], [3, 5], [4, 5])
