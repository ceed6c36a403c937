"""Entries of batches that are no tensors, and copies of batches."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from chita import nested
from chita.data.batches import batches_of, read
from chita.data.examples import Examples
from chita.errors import InputError

X, Y = torch.randn(12, 2), torch.arange(12)


def batches(**entries):
    return [
        {"x": X[i : i + 4], "y": Y[i : i + 4]} | {n: f(i) for n, f in entries.items()}
        for i in range(0, 12, 4)
    ]


def texts(i):
    return [f"{n}.jpg" for n in range(i, i + 4)]


def test_texts_stay_with_their_samples():
    examples = Examples(*batches(name=texts, number=lambda i: np.arange(i, i + 4)))
    assert examples.batch["name"] == texts(0) + texts(4) + texts(8)
    for part in (examples.take(torch.tensor([7, 2, 9])), *examples.split(5)):
        (found,) = part.parts
        assert found["name"] == [f"{n}.jpg" for n in found["y"].tolist()]
        assert found["number"].tolist() == found["y"].tolist()
    others = Examples(*batches(name=lambda i: texts(i + 1), number=lambda i: np.arange(i, i + 4)))
    assert others.digest() != examples.digest()


@pytest.mark.parametrize(
    "entry",
    [
        lambda _: ["cat", "dog", "cow", "pig"],  # names of classes, as many as samples
        lambda _: [0.5, 1.5],
        lambda i: ["a", "b"] if i else ["a", "b", "c", "d"],
        lambda _: torch.Size([8, 8, 8, 8]),
    ],
)
def test_what_belongs_to_a_batch_is_not_cut(entry):
    data = batches(e=entry)
    for batch, given in zip(read(data), data, strict=True):
        assert next(Examples(batch).batches(1))["e"] == given["e"]


def test_texts_that_are_the_same_in_some_batches_only_are_refused():
    names = lambda i: ["a", "b", "c", "d"] if i < 8 else ["b", "a", "c", "d"]  # noqa: E731
    with pytest.raises(InputError, match=r"\['e'\] of a batch, list, holds 4 values"):
        list(read(batches(e=names)))
    later = lambda i: ["a", "b", "c", "d"] if i else ["b", "a", "c", "d"]  # noqa: E731
    assert [batch["e"] for batch in Examples(*read(batches(e=later))).batches(4)][1] == later(4)


def test_lists_of_tensors_are_cut_as_before():
    examples = Examples([[X, X + 1], Y])
    assert next(examples.batches(2))[0][1].shape == (2, 2)


def test_a_single_batch_tells_nothing_of_numbers_so_they_are_cut():
    part = next(Examples({"x": X, "y": Y, "w": list(range(12))}).batches(3))
    assert part["w"] == [0, 1, 2]


@pytest.mark.parametrize("given", [SimpleNamespace, dict])
def test_copies_share_no_tensor(given):
    batch = given(x=X.clone(), more=[Y.clone()], name="a", network=nn.Linear(2, 2))
    made = nested.copied(batch)
    seen, own = (b if isinstance(b, dict) else vars(b) for b in (batch, made))
    own["x"].zero_()
    own["more"][0].zero_()
    assert torch.equal(seen["x"], X)
    assert torch.equal(seen["more"][0], Y)
    assert own["network"] is seen["network"]
    assert type(made) is given


def test_objects_are_copied_by_their_own_clone():
    class Cloned:
        def clone(self):
            return "its own"

    class Stubborn:
        def __copy__(self):
            raise copy.Error

    stubborn = Stubborn()
    assert nested.copied((Cloned(), stubborn)) == ("its own", stubborn)


@pytest.mark.parametrize(
    "data", [{"x": X.numpy(), "y": Y.numpy()}, [X.numpy(), Y.numpy()], {"train": object()}]
)
def test_arrays_are_no_batches(data):
    with pytest.raises(InputError, match=r"made from arrays by torch\.as_tensor"):
        list(batches_of(data, 2))
