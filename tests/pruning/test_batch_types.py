"""Mappings reach a loss in the type that the data have: cut, joined, moved and cloned."""

from collections import OrderedDict, UserDict, defaultdict
from collections.abc import Mapping
from types import MappingProxyType

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import chita
from chita import nested
from chita.data.examples import Examples, cut


class Attributes(UserDict):
    """Entries that are attributes, too, as of the batches of tokenizers."""

    def __getattr__(self, name):
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(name) from None


class OwnDict(dict):
    """A dict that is its own attributes."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__ = self


class Cached(UserDict):
    """Entries that are attributes since the object was made."""

    def __init__(self, entries):
        super().__init__(entries)
        self.x, self.y = entries["x"], entries["y"]


class Fixed(Mapping):
    """A mapping that cannot be written to."""

    def __init__(self, entries):
        self._entries = entries

    def __getitem__(self, name):
        return self._entries[name]

    def __iter__(self):
        return iter(self._entries)

    def __len__(self):
        return len(self._entries)

    x = property(lambda self: self["x"])
    y = property(lambda self: self["y"])


def by_attribute(model, batch):
    return cross_entropy(model(batch.x), batch.y)


def by_name(model, batch):
    return cross_entropy(model(batch["x"]), batch["y"])


def in_order(model, batch):
    batch.move_to_end("x")
    return by_name(model, batch)


KINDS = {
    "attributes": (Attributes, by_attribute),
    "own-dict": (OwnDict, by_attribute),
    "cached": (Cached, by_attribute),
    "fixed": (Fixed, by_attribute),
    "ordered": (OrderedDict, in_order),
    "default": (lambda e: defaultdict(int, e), lambda m, b: by_name(m, b) + b["none"]),
    "proxy": (MappingProxyType, by_name),
}


def batches(kind=dict):
    torch.manual_seed(0)
    x, y = torch.randn(40, 6), torch.randint(3, (40,))
    return [kind({"x": x[i : i + 8], "y": y[i : i + 8]}) for i in range(0, 40, 8)]


def pruned(data, loss, **others):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
    fisher, quadratic = chita.Fisher(samples=20), chita.Quadratic(ridge=0.1)
    asked = {"sparsity": 0.5, "fisher": fisher, "quadratic": quadratic, **others}
    return chita.prune(network, data, loss=loss, **asked).model.state_dict()


@pytest.mark.parametrize("training", [None, chita.Training(epochs=1, events=1)])
@pytest.mark.parametrize("name", KINDS)
def test_weights_are_those_of_plain_dicts(name, training):
    kind, loss = KINDS[name]
    expected = pruned(batches(), by_name, training=training)
    found = pruned(batches(kind), loss, training=training)
    assert all(torch.equal(found[key], value) for key, value in expected.items())


@pytest.mark.parametrize("name", KINDS)
def test_every_copy_has_the_type_and_its_own_tensors(name):
    kind, loss = KINDS[name]
    given = batches(kind)
    network = nn.Linear(6, 3)
    whole = Examples(*given)
    copies = [*cut(given[0], 3), *whole.to("cpu").parts, nested.map_tensors(torch.clone, given[0])]
    assert {type(copy) for copy in copies} == {type(given[0])}
    assert [len(copy["x"]) for copy in copies] == [3, 3, 2, 40, 8]
    for copy in copies:
        assert loss(network, copy) == by_name(network, dict(copy))
    assert len(given[0]["x"]) == 8
    assert chita.evaluate(network, given, loss=loss) is not None


def test_attributes_beside_the_entries_stay():
    batch = UserDict(x=torch.zeros(4, 2))
    batch.task = "classes"
    assert [part.task for part in cut(batch, 2)] == ["classes"] * 2
    other = UserDict(x=torch.zeros(4, 2))
    other.task = "boxes"
    assert not nested.joinable(batch, other)


def test_a_type_that_can_only_be_made_by_its_library_becomes_a_dict():
    class Sealed(Fixed):
        def __init__(self, entries, key):
            super().__init__(entries)

    found = nested.map_leaves(abs, Sealed({"a": -1}, key=None))
    assert found == {"a": 1}
    assert type(found) is dict


def test_labels_that_are_drawn_stand_in_a_batch_of_the_same_type():
    transformers = pytest.importorskip("transformers")

    class Classifier(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(6, 3)

        def forward(self, x, labels):
            logits = self.head(x)
            return {"loss": cross_entropy(logits, labels), "logits": logits}

    data = [transformers.BatchEncoding({"x": b["x"], "labels": b["y"]}) for b in batches()]
    loss = chita.losses.LOSSES["model"]
    drawn = loss.relabelled(Classifier(), data[0], torch.Generator().manual_seed(0))
    assert type(drawn) is transformers.BatchEncoding
    assert drawn.labels.shape == data[0].labels.shape
