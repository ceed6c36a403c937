from collections import OrderedDict, UserDict, namedtuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chita import nested

Pair = namedtuple("Pair", ["x", "y"])


class Graph:
    """A batch of a type of its own."""


def rows(count, start=0):
    """A nested batch whose every tensor tells its sample: n, -n, and n in a row of two."""
    n = torch.arange(start, start + count)
    wide = n.float().unsqueeze(1).expand(-1, 2).clone()
    return {"a": (n, [-n]), "b": Pair(wide, "kept"), "flag": True, "none": None}


def same(a, b):
    pairs = list(zip(nested.tensors(a), nested.tensors(b), strict=True))
    return bool(pairs) and all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


def test_tensors_come_depth_first_and_nothing_else():
    a, b, c = (torch.tensor(i) for i in range(3))
    batch = {"x": (a, [b, "text", 3]), "y": {"z": c}, "n": None}
    assert [int(t) for t in nested.tensors(batch)] == [0, 1, 2]
    assert list(nested.tensors("text")) == []
    assert list(nested.tensors(Graph())) == []


def test_containers_keep_their_type():
    batch = UserDict({"p": Pair(1, [2]), "t": (3,), "o": OrderedDict(q=4)})
    mapped = nested.map_leaves(lambda leaf: leaf * 10, batch)
    assert mapped == {"p": Pair(10, [20]), "t": (30,), "o": {"q": 40}}
    assert type(mapped) is UserDict
    assert type(mapped["o"]) is OrderedDict
    assert type(mapped["p"]) is Pair
    assert type(mapped["p"].y) is list
    assert type(mapped["t"]) is tuple


def test_mapping_tensors_leaves_other_leaves_as_they_are():
    graph = Graph()
    batch = [torch.ones(2), graph, "text", None, 3]
    mapped = nested.map_tensors(lambda t: t + 1, batch)
    assert mapped[0].tolist() == [2, 2]
    assert mapped[1] is graph
    assert mapped[2:] == ["text", None, 3]
    assert batch[0].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("batch", "count"),
    [
        (torch.zeros(3, 2), 3),
        ((torch.zeros(3, 2), [torch.zeros(3)]), 3),
        ({"x": torch.zeros(0, 2), "n": 5}, 0),
        ((torch.zeros(3), torch.zeros(2)), None),
        (torch.tensor(1.0), None),
        ((torch.zeros(3), torch.tensor(1.0)), None),
        ({"n": 5}, None),
        ((), None),
        (Graph(), None),
        ("abc", None),
    ],
)
def test_the_count_is_the_first_size_that_all_tensors_share(batch, count):
    assert nested.count(batch) == count


@settings(deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_joining_parts_gives_the_whole(counts):
    starts = [sum(counts[:i]) for i in range(len(counts))]
    parts = [rows(count, start) for count, start in zip(counts, starts, strict=True)]
    assert all(nested.joinable(parts[0], part) for part in parts)
    whole = nested.joined(parts)
    assert same(whole, rows(sum(counts)))
    assert nested.count(whole) == sum(counts)
    assert type(whole["b"]) is Pair
    assert type(whole["a"][1]) is list
    assert (whole["b"].y, whole["flag"], whole["none"]) == ("kept", True, None)


def test_one_batch_joined_is_itself_in_new_containers():
    batch = {"x": [torch.arange(3)]}
    alone = nested.joined([batch])
    alone["x"].append("more")
    assert len(batch["x"]) == 1
    assert alone["x"][0] is batch["x"][0]


X = torch.zeros(2, 3)


@pytest.mark.parametrize(
    ("a", "b", "joinable"),
    [
        (X, torch.ones(5, 3), True),
        (X, torch.ones(5, 4), False),
        (X, X.double(), False),
        (X, torch.zeros(2), False),
        (X, torch.zeros(2, 3, device="meta"), False),
        ({"a": X, "b": X}, {"a": X, "b": X}, True),
        ({"a": X, "b": X}, {"b": X, "a": X}, False),
        ({"a": X}, {"a": X, "b": X}, False),
        ((X, X), (X, X), True),
        ((X, X), [X, X], False),
        ((X, X), (X, X, X), False),
        ((X, X), Pair(X, X), False),
        ((X, "a"), (X, "a"), True),
        ((X, "a"), (X, "b"), False),
        ((X, 1), (X, 1), True),
        ((X, 1), (X, 2), False),
        ((X, None), (X, None), True),
        ((X, None), (X, X), False),
        ((X, Graph()), (X, Graph()), False),
        (Graph(), Graph(), False),
    ],
)
def test_only_values_and_number_of_samples_may_differ(a, b, joinable):
    assert nested.joinable(a, b) is joinable
    assert nested.joinable(b, a) is joinable


def test_a_description_shows_structure_shapes_and_types():
    batch = {"ids": torch.zeros(2, 3, dtype=torch.int64), "more": (torch.zeros(()), None, Graph())}
    assert nested.described(batch) == "{ids: (2, 3) int64, more: (() float32, NoneType, Graph)}"


def test_long_lists_are_described_by_their_first_entries():
    assert nested.described((torch.zeros(9, 2), ["a"] * 9)) == (
        "((9, 2) float32, (str, str, str, ... 9 in all))"
    )
    assert nested.described(["a"] * 8).count("str") == 8
    mixed = [["a", 1] * 5, {"b": [1] * 20}]
    assert nested.described(mixed, whole=True).count("int") == 25
