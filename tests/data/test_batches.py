import random
from collections import OrderedDict, UserDict, namedtuple

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from chita.data.batches import batches_of
from chita.data.examples import Examples, as_examples
from chita.data.sampler import draw
from chita.errors import InputError

Named = namedtuple("Named", ["x", "y"])


def pair(start, stop):
    """Samples that tell their number: n in the inputs (b, 2), n as the target."""
    n = torch.arange(start, stop)
    return n.float().unsqueeze(1).expand(-1, 2).clone(), n


def numbers(examples):
    """The numbers of the samples, after a look whether the inputs have the same."""
    found = []
    for x, y in examples.parts:
        assert torch.equal(x[:, 0].long(), y)
        found += y.tolist()
    return found


def padded(start, stop, length):
    n = torch.arange(start, stop)
    return {"input_ids": n.unsqueeze(1).expand(-1, length).clone(), "labels": n}


class Graph:
    """A batch of a type of its own."""

    def __init__(self, number):
        self.number = number
        self.device = "cpu"

    def to(self, device):
        moved = Graph(self.number)
        moved.device = device
        return moved


class Again:
    """Batches that can be read again; counts what is read."""

    def __init__(self, batches):
        self.batches = batches
        self.read = 0

    def __iter__(self):
        for batch in self.batches:
            self.read += 1
            yield batch


class Once:
    """Batches that are gone after the first reading, without being an iterator."""

    def __init__(self, batches):
        self.left = list(batches)

    def __iter__(self):
        while self.left:
            yield self.left.pop(0)


@pytest.mark.parametrize("size", [1, 3, 4, 20])
def test_a_loader_in_order(size):
    loader = DataLoader(TensorDataset(*pair(0, 20)), batch_size=size)
    drawn = draw(loader, 11, seed=5)
    assert numbers(drawn) == list(range(11))
    assert drawn.batch[0].shape == (11, 2)


@pytest.mark.parametrize("kind", [list, tuple, Named._make])
def test_batches_of_any_pair(kind):
    batches = [kind(pair(i, i + 4)) for i in range(0, 12, 4)]
    drawn = draw(batches, 6, seed=0)
    assert numbers(drawn) == list(range(6))
    assert type(drawn.batch) is type(batches[0])


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict])
def test_batches_of_dicts(kind):
    batches = [kind(padded(i, i + 4, length=3), use_cache=False) for i in range(0, 12, 4)]
    drawn = draw(batches, 6, seed=0).batch
    assert drawn["labels"].tolist() == list(range(6))
    assert drawn["input_ids"].shape == (6, 3)
    assert drawn["use_cache"] is False


def test_batches_of_different_padding_stay_apart():
    lengths = [3, 3, 5, 3]
    batches = [padded(4 * i, 4 * i + 4, length) for i, length in enumerate(lengths)]
    drawn = draw(batches, 14, seed=0)
    assert [tuple(part["input_ids"].shape) for part in drawn.parts] == [(8, 3), (4, 5), (2, 3)]
    assert torch.cat([part["labels"] for part in drawn.parts]).tolist() == list(range(14))
    assert len(drawn) == 14
    with pytest.raises(InputError, match="different shapes and make no single batch"):
        _ = drawn.batch


def test_objects_of_their_own_type_count_as_one_sample_each():
    graphs = [Graph(i) for i in range(5)]
    drawn = draw(graphs, 3, seed=0)
    assert list(drawn.parts) == graphs[:3]
    assert len(drawn) == 3
    assert drawn.digest() is None
    moved = drawn.to("meta")
    assert [(g.number, g.device) for g in moved.parts] == [(i, "meta") for i in range(3)]
    with pytest.raises(InputError, match=r"need 6 samples.*hold 5. Lower one"):
        draw(graphs, 6, seed=0)


def test_no_more_batches_are_read_than_needed():
    batches = Again([pair(i, i + 4) for i in range(0, 400, 4)])
    assert numbers(draw(batches, 8, seed=0)) == list(range(8))
    assert batches.read <= 3  # two, and the first one again


def test_samples_at_once_are_drawn_without_replacement():
    for data in (pair(0, 30), Examples(pair(0, 30))):
        drawn = numbers(draw(data, 30, seed=3))
        assert sorted(drawn) == list(range(30))
        assert drawn != list(range(30))
    for kind in (dict, UserDict):
        whole = draw(kind(padded(0, 30, length=2)), 30, seed=3).batch
        assert whole["labels"].tolist() == drawn
    assert draw((torch.arange(3), None), 2, seed=0).batch[1] is None


def test_a_tuple_of_pairs_is_no_pair_and_neither_is_a_list_of_two_tensors():
    assert numbers(draw((pair(0, 3), pair(3, 6), pair(6, 9)), 4, seed=0)) == [0, 1, 2, 3]
    assert as_examples((pair(0, 3), pair(3, 6))) is None
    assert as_examples(list(pair(0, 3))) is None
    assert as_examples({"n": 3}) is None


def shuffled(generator=None):
    return DataLoader(TensorDataset(*pair(0, 50)), batch_size=7, shuffle=True, generator=generator)


def test_a_shuffled_loader_shuffles_by_the_seed_and_the_generator_is_restored():
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = numbers(draw(shuffled(), 20, seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(456)
    torch.rand(7)
    assert numbers(draw(shuffled(), 20, seed=1)) == first
    assert numbers(draw(shuffled(), 20, seed=2)) != first
    assert len(set(first)) == 20
    assert first != sorted(first)


def test_other_generators_are_left_alone():
    """That of Python, and the loader's own, which moves on as in any reading."""
    own = torch.Generator().manual_seed(9)
    state = random.getstate()
    first = numbers(draw(shuffled(own), 20, seed=1))
    assert random.getstate() == state
    again = torch.Generator().manual_seed(9)
    assert numbers(draw(shuffled(again), 20, seed=2)) == first


def test_a_seed_may_be_large():
    assert len(draw(shuffled(), 3, seed=2**70 + 1)) == 3
    assert len(draw(pair(0, 9), 3, seed=2**70 + 1)) == 3


def test_the_workers_of_a_loader_start_no_more_often_than_the_data_are_read():
    class Counted(Again):
        starts = 0

        def __iter__(self):
            self.starts += 1
            return super().__iter__()

    data = Counted([pair(0, 4)])
    list(batches_of(data, 2))
    assert data.starts == 1


@pytest.mark.parametrize(
    "once",
    [
        lambda b: (batch for batch in b),
        iter,
        lambda b: map(tuple, b),
        lambda b: zip(*zip(*b, strict=True), strict=True),
    ],
)
def test_what_can_be_read_only_once_is_refused(once):
    batches = [pair(0, 4), pair(4, 8)]
    with pytest.raises(InputError, match=r"can be read only once. Give a DataLoader"):
        draw(once(batches), 2, seed=0)
    with pytest.raises(InputError, match="can be read only once"):
        list(batches_of(once(batches), 2))
    assert len(draw(batches, 2, seed=0)) == 2


def test_an_object_that_is_empty_the_second_time_is_refused():
    batches = [pair(0, 4), pair(4, 8)]
    with pytest.raises(InputError, match=r"Once yields nothing the second time.*starts again"):
        draw(Once(batches), 8, seed=0)
    assert len(draw(Again(batches), 8, seed=0)) == 8


def test_data_without_a_batch():
    with pytest.raises(InputError, match="yield no batch"):
        list(batches_of([], 2))
    with pytest.raises(InputError, match="hold 0"):
        draw([], 1, seed=0)
    with pytest.raises(InputError, match="hold 0"):
        draw([pair(0, 0)], 1, seed=0)


def singles():
    return [(torch.randn(3), i) for i in range(4)]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(singles())


@pytest.mark.parametrize(
    "data",
    [
        singles(),
        [(x, torch.tensor(y)) for x, y in singles()],
        [[x, float(y)] for x, y in singles()],
        Stream(),
        TensorDataset(*pair(0, 4)),
    ],
)
def test_single_samples_are_refused_with_advice(data):
    with pytest.raises(InputError, match=r"torch\.utils\.data\.DataLoader"):
        draw(data, 2, seed=0)
    if not isinstance(data, TensorDataset):
        assert len(draw(DataLoader(data, batch_size=2), 2, seed=0)) == 2


@pytest.mark.parametrize("data", [torch.zeros(3), "text", b"text", 3, None, object()])
def test_what_is_no_data(data):
    with pytest.raises(InputError, match=rf"The data are a {type(data).__name__}; give a pair"):
        draw(data, 1, seed=0)


def test_too_few():
    with pytest.raises(InputError, match=r"need 9 samples .*hold 8. Lower one of them, or"):
        draw([pair(0, 4), pair(4, 8)], 9, seed=0)
    with pytest.raises(InputError, match=r"need 5 samples .*hold 4"):
        draw(pair(0, 4), 5, seed=0)


def test_all_batches_as_they_come_and_samples_in_batches_of_a_size():
    given = [pair(0, 4), pair(4, 9)]
    assert [len(b[1]) for b in batches_of(given, 2)] == [4, 5]
    assert [b[1].tolist() for b in batches_of(pair(0, 5), 2)] == [[0, 1], [2, 3], [4]]
    assert [len(b[1]) for b in batches_of(DataLoader(TensorDataset(*pair(0, 5)), 3), 1)] == [3, 2]
    graphs = [Graph(0), Graph(1)]
    assert list(batches_of(graphs, 7)) == graphs


def mixed():
    """12 samples in three parts, two of them of one padding, and a batch of another type."""
    parts = [padded(0, 4, 3), padded(4, 6, 3), padded(6, 9, 5), Graph(9), padded(10, 12, 3)]
    return Examples(*parts)


def told(examples):
    """The numbers of the samples, in order."""
    found = []
    for part in examples.parts:
        found += [part.number] if isinstance(part, Graph) else part["labels"].tolist()
    return found


def test_parts_are_joined_where_they_can_be():
    assert len(mixed().parts) == 4
    assert len(mixed()) == 12
    assert told(mixed()) == list(range(12))


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_batches_make_up_the_whole(size):
    batches = list(mixed().batches(size))
    assert told(Examples(*batches)) == list(range(12))
    lengths = [1 if isinstance(b, Graph) else len(b["labels"]) for b in batches]
    assert max(lengths) <= size
    alone = Examples(pair(0, 10))
    assert [len(b[1]) for b in alone.batches(4)] == [4, 4, 2]


@pytest.mark.parametrize("index", [[0], [11, 0, 9, 9, 6, 5, 4], list(range(12))])
def test_samples_are_taken_in_the_order_asked_for(index):
    assert told(mixed().take(torch.tensor(index))) == index
    simple = Examples(pair(0, 12))
    assert numbers(simple.take(torch.tensor(index))) == index


@pytest.mark.parametrize("count", range(1, 13))
def test_the_first_samples_are_those_taken(count):
    first = mixed().first(count)
    assert told(first) == list(range(count))
    simple = Examples(pair(0, 12))
    taken = simple.take(torch.arange(count))
    assert simple.first(count).digest() == taken.digest()
    assert mixed().first(100).parts[0].keys() == {"input_ids", "labels"}


def test_samples_of_several_types_are_moved():
    moved = Examples({"x": torch.zeros(2), "text": "a", "g": [Graph(1)]}).parts[0]
    back = Examples({"x": torch.zeros(2), "g": [Graph(1)], "text": "a"}).to(torch.device("cpu"))
    assert back.parts[0]["g"][0].device == torch.device("cpu")
    assert back.parts[0]["text"] == moved["text"] == "a"


def test_a_digest_tells_structure_names_and_values_apart():
    x, y = torch.arange(3), torch.arange(3) + 5
    digests = [
        Examples(batch).digest()
        for batch in (
            {"x": x, "y": y},
            {"x": y, "y": x},
            {"y": x, "x": y},
            {"x": x, "labels": y},
            (x, y),
            [x, y, x],
            ((x, y), x),
            (x, (y, x)),
            (x, y.float()),
            (x, y.reshape(3, 1)),
            (x, y + 1),
            [*[x] * 9, y.reshape(3, 1), *[x] * 9],
            [*[x] * 9, y.reshape(3, 1, 1), *[x] * 9],
        )
    ]
    assert len(set(digests)) == len(digests)
    assert None not in digests


def test_a_digest_does_not_depend_on_how_samples_came():
    whole = Examples(pair(0, 9)).digest()
    assert Examples(pair(0, 4), pair(4, 5), pair(5, 9)).digest() == whole
    x, y = pair(0, 9)
    strided = torch.stack([x, x], 2)[:, :, 0]
    assert not strided.is_contiguous()
    assert Examples((strided, y)).digest() == whole
    assert Examples((x.clone().requires_grad_(), y)).digest() == whole


def test_types_that_numpy_does_not_know_have_a_digest_too():
    x = torch.arange(4)
    digests = {Examples((x.to(t), x)).digest() for t in (torch.bfloat16, torch.half, torch.bool)}
    assert len(digests) == 3


def test_samples_are_not_changed_by_what_is_added_to_the_batch_given():
    batch = {"x": torch.arange(3)}
    examples = Examples(batch)
    batch["y"] = torch.arange(5)
    assert len(examples) == 3


def test_inputs_beside_each_other_are_told_to_go_into_a_pair():
    x, mask, y = torch.ones(5, 2), torch.ones(5, 3), torch.zeros(5)
    with pytest.raises(InputError, match=r"give a pair.*before the targets: \(\(a, b\), targets\)"):
        list(batches_of((x, mask, y), 2))
    assert len(list(batches_of(((x, mask), y), 2))) == 3
