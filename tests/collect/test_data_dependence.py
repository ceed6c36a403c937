import numpy as np
import pytest
import torch

from chita.collect.data_dependence import watch_data_dependence

READING = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool(x.sum() > 0),
    "float": lambda x: float(x[0, 0]),
    "tolist": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "asarray": np.asarray,
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 0),
    "mask": lambda x: x[x > 0],
    "masked_select": lambda x: x.masked_select(x > 0),
    "unique": lambda x: x.unique(),
    "equal": lambda x: torch.equal(x, x),
    "max": lambda x: max(x[0]),
    "one_hot": lambda x: torch.nn.functional.one_hot(x.argmax(1)),
}

BLIND = {
    "arithmetic": lambda x: (x @ x.T).relu().softmax(1).sum(),
    "integers": lambda x: x[torch.tensor([0, 1])],
    "lookup": lambda x: torch.nn.functional.embedding(torch.tensor([0, 1]), x),
    "choice": lambda x: torch.where(x > 0, x, -x),
    "sizes": lambda x: x.view(-1)[: len(x)],
}


@pytest.mark.parametrize("name", READING)
def test_values_that_leave_their_tensor_or_decide_shapes_are_noticed(name):
    with watch_data_dependence() as dependence:
        READING[name](torch.randn(3, 3))
    assert dependence.seen


@pytest.mark.parametrize("name", BLIND)
def test_other_operations_are_not(name):
    with watch_data_dependence() as dependence:
        BLIND[name](torch.randn(3, 3))
    assert not dependence.seen


def test_noticing_ends_with_its_block():
    with watch_data_dependence() as dependence:
        pass
    bool(torch.ones(()))
    assert not dependence.seen
