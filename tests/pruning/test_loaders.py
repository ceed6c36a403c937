"""Loaders of few samples give what they have; those without an end have no epochs."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import chita
from chita.errors import InputError

X, Y = torch.randn(90, 6, generator=torch.Generator().manual_seed(0)), torch.arange(90) % 3
PAIRS = list(zip(X.split(8), Y.split(8), strict=True))
LOADERS = {
    "list": (PAIRS, 90),
    "loader": (DataLoader(TensorDataset(X, Y), batch_size=8), 90),
    "loader that drops": (DataLoader(TensorDataset(X, Y), batch_size=8, drop_last=True), 88),
}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("solver", ["chita", "wanda"])
def test_a_loader_of_few_samples_is_used_whole(name, solver):
    """As samples at once are: a fifth is for validation where something is chosen by it."""
    data, held = LOADERS[name]
    record = chita.prune(network(), data, sparsity=0.5, solver=solver).record
    validation = held // 5 if solver == "chita" else 0
    assert (record.samples, record.validation) == (held - validation, validation)


def test_what_only_reading_tells_is_refused_with_the_number_that_was_read():
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter(PAIRS)

    with pytest.raises(InputError, match=r"need 1000 samples.*hold 90"):
        chita.prune(network(), DataLoader(Stream(), batch_size=None), sparsity=0.5, solver="wanda")
    with pytest.raises(InputError, match=r"need 300 samples.*hold 90"):
        chita.prune(
            network(), PAIRS, sparsity=0.5, solver="wanda", fisher=chita.Fisher(samples=300)
        )


def test_training_on_a_loader_without_an_end_is_refused(monkeypatch):
    class Endless:
        def __iter__(self):
            while True:
                yield from PAIRS

    monkeypatch.setattr("chita.data.sampler._MOST", 50)
    options = {"sparsity": 0.5, "solver": "magnitude"}
    with pytest.raises(InputError, match=r"The Endless has more than 50 batches"):
        chita.prune(network(), Endless(), training=chita.Training(epochs=1, events=1), **options)
