"""The order of blocks: found on little, right for networks that call blocks as they please."""

import pytest
import torch
from torch import nn

from chita.collect.chain import Chain
from chita.collect.order import Order, find_order
from chita.errors import InputError


class Counted(nn.Linear):
    """Counts what it is given."""

    def __init__(self, width=4):
        super().__init__(width, width)
        self.seen = []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return super().forward(x)


class Walk(nn.Module):
    """Calls its blocks in a way of its own."""

    def __init__(self, walk):
        super().__init__()
        self.a, self.b, self.walk = Counted(), Counted(), walk

    def forward(self, x):
        return self.walk(self, x)


def by_sample(self, x):
    return self.b(torch.stack([self.a(row) for row in x]))


def by_token(self, input_ids):
    x = nn.functional.one_hot(input_ids % 4, 4).float()
    for step in range(x.shape[1]):
        x = x + self.a(x[:, step]).unsqueeze(1)
    return self.b(x)


CASES = {
    "by sample": (by_sample, torch.randn(6, 3, 4), 6),
    "by token": (by_token, {"input_ids": torch.arange(80).view(4, 20)}, 20),
}


@pytest.mark.parametrize("name", CASES)
def test_blocks_are_called_as_often_as_the_whole_batch_calls_them(name):
    walk, batch, calls = CASES[name]
    model = Walk(walk)

    def run(batch):
        return model(batch["input_ids"] if isinstance(batch, dict) else batch)

    modules = {"a": model.a, "b": model.b}
    found = find_order(modules, run, [batch])
    assert found == Order(counts={"a": calls, "b": 1}, last={"a": 1, "b": -1})
    model.a.seen.clear()
    list(Chain(modules, run, [batch], 10**9, found).passes("a"))
    assert len(model.a.seen) == calls


def by_sign(self, x):
    return self.b(x) if bool((x > 0).all()) else self.b(self.a(x))


def by_output(self, x):
    y = self.b(x)
    return self.a(y[y.square().sum(1) > 0])  # all, or none of the zeros that a probe puts there


def by_halting(self, x):
    while bool((x.abs() > 0.1).any()):
        x = 0.5 * self.a(x).sigmoid() * x
    return x


SIGNS = torch.tensor([1.0, 1.0, -1.0]).repeat(4, 1).T
BY_VALUES = {
    "in a batch": (by_sign, [SIGNS.flip(0)], "ab"),
    "in a later batch": (by_sign, [SIGNS[:2], SIGNS[:2], SIGNS], "ab"),
    "by what a block gives": (by_output, [torch.randn(6, 4)], "ba"),
    "how often": (by_halting, [SIGNS * torch.tensor([[1.0], [9.0], [5.0]])], "a"),
}


@pytest.mark.parametrize("name", BY_VALUES)
def test_where_calls_depend_on_values_every_pass_is_whole(name):
    walk, batches, order = BY_VALUES[name]
    model = Walk(walk)
    modules = {"a": model.a, "b": model.b}
    found = find_order(modules, model, batches)
    assert found == Order(counts=dict.fromkeys(order, 0), last={})
    assert list(found.counts) == list(order)


class Decoder(nn.Module):
    """Embeds tokens, and has three blocks and a head."""

    def __init__(self):
        super().__init__()
        self.embedding, self.head = nn.Embedding(50, 4), Counted()
        self.blocks = nn.ModuleList([Counted() for _ in range(3)])

    def forward(self, input_ids, attention_mask):
        x = self.embedding(input_ids) * attention_mask.unsqueeze(-1)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


@pytest.mark.parametrize("padded", [False, True])
def test_text_is_probed_with_few_tokens_and_passes_end_with_the_last_block(padded):
    model = Decoder()
    ids = torch.arange(8 * 40).view(8, 40) % 50
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if padded:
        batch["attention_mask"][0, :30] = 0
    blocks = dict(model.blocks.named_children())
    found = find_order(blocks, lambda given: model(**given), [batch])
    assert found == Order(counts={"0": 1, "1": 1, "2": 1}, last={"0": 2, "1": 2, "2": -1})
    # Of two sizes the calls are compared; those of the tracing never come to the head.
    assert model.head.seen == [(1, 40, 4), (2, 40, 4)] if padded else [(1, 16, 4), (2, 8, 4)]


def test_what_fails_on_one_sample_is_probed_with_all():
    def pairs(self, x):
        if len(x) < 4:
            raise InputError("too few")
        return self.b(self.a(x))

    model = Walk(pairs)
    found = find_order({"a": model.a, "b": model.b}, model, [torch.randn(5, 4)])
    assert found == Order(counts={"a": 1, "b": 1}, last={"a": 1, "b": -1})
