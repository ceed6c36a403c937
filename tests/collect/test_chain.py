"""A chain of blocks, against running the whole network again and again."""

import gc
from pathlib import Path

import pytest
import torch
from torch import nn

from chita.collect.activations import Activations
from chita.collect.chain import Chain
from chita.collect.order import find_order
from chita.errors import InputError


class Block(nn.Module):
    """Returns a tuple, takes a named argument, and writes into its output afterwards."""

    def __init__(self, width=6):
        super().__init__()
        self.inner, self.runs = nn.Linear(width, width), 0

    def forward(self, x, *, scale=1.0):
        self.runs += 1
        return torch.relu_(self.inner(x) * scale) + x, None


class Decoder(Block):
    """Takes the encoder's result as well."""

    def forward(self, x, memory=None, **named):
        y, _ = super().forward(x + memory.mean(1, keepdim=True), **named)
        return {"hidden": y}


class Tower(nn.Module):
    """Blocks, then decoders that look at what the last block gave; a skip over two; a head."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.blocks = nn.ModuleList([Block() for _ in range(3)])
        self.decoders = nn.ModuleList([Decoder() for _ in range(2)])
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        y = start = self.first(x)
        for i, block in enumerate(self.blocks):
            y, _ = block(y, scale=1.0 + i)
            y.mul_(0.5)
        memory = y + start
        z = torch.tanh(self.first(x))
        for decoder in self.decoders:
            z = decoder(z, memory=memory, scale=0.7)["hidden"]
        return self.head(z)


def chain_of(modules, run, batches, limit):
    """A chain of blocks in the order in which the first batch calls them."""
    return Chain(modules, run, batches, limit, find_order(modules, run, batches))


def spilled(activations):
    """The number of values in files."""
    return sum(isinstance(tensors, Path) for _, tensors in activations._values.values())


def blocks(model):
    modules = {f"blocks.{i}": m for i, m in enumerate(model.blocks)}
    modules |= {f"decoders.{i}": m for i, m in enumerate(model.decoders)}
    return {**modules, "head": model.head}


def inputs_of(module, run):
    """All tensors that a module is given while something runs."""
    seen = []
    handle = module.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append([
            t.clone() for t in (*args, *kwargs.values()) if isinstance(t, torch.Tensor)
        ]),
        with_kwargs=True,
    )
    try:
        with torch.no_grad():
            run()
    finally:
        handle.remove()
    return seen


@pytest.mark.parametrize("limit", [10**9, 0, 500])
def test_every_unit_sees_what_it_would_in_the_changed_network(limit):
    torch.manual_seed(1)
    model = Tower()
    batches = [torch.randn(3, 5, 4), torch.randn(2, 5, 4)]
    chain = chain_of(blocks(model), model, batches, limit)
    assert chain.order == tuple(blocks(model))
    most = 0
    for name in chain.order:
        module = blocks(model)[name]
        seen = inputs_of(module, lambda name=name: [*chain.passes(name)])
        expected = inputs_of(module, lambda: [model(batch) for batch in batches])
        for ours, theirs in zip(seen, expected, strict=True):
            for a, b in zip(ours, theirs, strict=True):
                assert torch.equal(a, b)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(0.9)
        assert len([*chain.settle(name)]) == 2
        most = max(most, spilled(chain._kept))
    assert (most > 0) == (limit < 10**9)


def test_settled_units_are_not_run_again():
    model = Tower()
    chain = chain_of(blocks(model), model, [torch.randn(3, 5, 4)], 10**9)
    for module in model.modules():
        module.runs = 0
    for name in chain.order:
        [*chain.passes(name)]
        [*chain.settle(name)]
    assert [block.runs for block in (*model.blocks, *model.decoders)] == [2] * 5


def test_outputs_that_no_later_unit_gets_are_dropped():
    model = Tower()
    chain = chain_of(blocks(model), model, [torch.randn(3, 5, 4)], 10**9)
    held = []
    for name in chain.order:
        [*chain.settle(name)]
        held.append(chain._kept._held)
    each = 3 * 5 * 6 * 4
    # The last block's output is needed by both decoders, every other one by the next alone.
    assert held == [each, each, each, 2 * each, each, 0]


def test_a_unit_that_is_called_twice_keeps_both_outputs_or_is_run():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = Block(), Block()

        def forward(self, x):
            return self.b(self.a(self.a(x)[0])[0])[0]

    class Around(Twice):
        def forward(self, x):
            return self.a(self.b(self.a(x)[0])[0])[0]

    for model in (Twice(), Around()):
        check_twice(model, torch.randn(3, 6))


def check_twice(model, batch):
    chain = chain_of({"a": model.a, "b": model.b}, model, [batch], 10**9)
    for name in chain.order:
        block = getattr(model, name)
        seen = inputs_of(block, lambda name=name: [*chain.passes(name)])
        expected = inputs_of(block, lambda: model(batch))
        assert len(seen) == len(expected)
        for ours, theirs in zip(seen, expected, strict=True):
            assert torch.equal(ours[0], theirs[0])
        with torch.no_grad():
            block.inner.weight.mul_(0.5)
        [*chain.settle(name)]


def test_units_that_are_not_called_are_left_out_and_forward_is_as_before():
    model = Tower()
    model.spare = nn.Linear(2, 2)
    chain = chain_of({**blocks(model), "spare": model.spare}, model, [torch.randn(3, 5, 4)], 0)
    assert "spare" not in chain.order
    [*chain.settle("blocks.0")]
    assert all("forward" not in module.__dict__ for module in model.modules())


def test_a_unit_that_is_called_more_often_at_another_time_is_named():
    class Moody(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.more = Block(), Block(), False

        def forward(self, x):
            x = self.a(x)[0]
            if self.more:
                x = self.a(x)[0]
            return self.b(x)[0]

    model = Moody()
    chain = chain_of({"a": model.a, "b": model.b}, model, [torch.randn(3, 6)], 10**9)
    [*chain.settle("a")]
    model.more = True
    with pytest.raises(InputError, match="a is called more often"):
        [*chain.passes("b")]


def test_values_come_back_as_they_were_from_memory_and_from_files():
    value = {"x": (torch.randn(3), [torch.arange(4), "text"]), "n": None, "h": torch.ones(2).half()}
    for limit in (10**6, 30, 0):
        kept = Activations(limit)
        kept.put("a", value)
        found = kept.get("a")
        assert torch.equal(found["x"][0], value["x"][0])
        assert torch.equal(found["x"][1][0], value["x"][1][0])
        assert (found["x"][1][1], found["n"], found["h"].dtype) == ("text", None, torch.float16)
        found["x"][0].zero_()
        assert torch.equal(kept.get("a")["x"][0], value["x"][0])
        assert spilled(kept) == (limit < 10**6)
        kept.put("a", torch.zeros(1))
        assert torch.equal(kept.get("a"), torch.zeros(1))
        kept.drop("a")
        with pytest.raises(KeyError):
            kept.get("a")
        assert spilled(kept) == 0


def test_files_are_gone_with_their_owner():
    kept = Activations(0)
    kept.put("a", torch.zeros(5))
    folder = kept._folder
    assert len(list(folder.iterdir())) == 1
    del kept
    gc.collect()
    assert not folder.exists()


def test_blocks_that_leave_something_behind_are_run_again():
    """What a block stores for another one is that of the batch at hand."""

    class Stores(nn.Module):
        def __init__(self, memory):
            super().__init__()
            self.inner, self.memory = nn.Linear(4, 4), memory

        def forward(self, x):
            self.memory["skip"] = h = self.inner(x)
            return torch.relu(h)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.memory = {}
            self.a, self.b, self.head = Stores(self.memory), Stores({}), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.b(self.a(x)) + self.memory["skip"])

    model, batches = Net(), [torch.randn(3, 4), 9 * torch.randn(3, 4)]
    modules = {"a": model.a, "b": model.b, "head": model.head}
    chain = chain_of(modules, model, batches, 10**9)
    for name in ("a", "b"):
        list(chain.settle(name))
    seen = inputs_of(model.head, lambda: [*chain.passes("head")])
    expected = inputs_of(model.head, lambda: [model(batch) for batch in batches])
    for ours, theirs in zip(seen, expected, strict=True):
        assert torch.equal(ours[0], theirs[0])


@pytest.mark.parametrize("lengths", [(2, 5, 5), (5, 2)])
def test_every_batch_has_as_many_calls_as_its_length_asks_for(lengths):
    class Cell(nn.Module):
        def __init__(self):
            super().__init__()
            self.step, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            h = torch.zeros(len(x), 4)
            for t in range(x.shape[1]):
                h = torch.tanh(x[:, t] + self.step(h))
            return self.out(h)

    model, batches = Cell(), [torch.randn(3, length, 4) for length in lengths]
    chain = chain_of({"step": model.step, "out": model.out}, model, batches, 10**9)
    for module, name in ((model.step, "step"), (model.out, "out")):
        seen = inputs_of(module, lambda name=name: [*chain.passes(name)])
        expected = inputs_of(module, lambda: [model(batch) for batch in batches])
        assert len(seen) == len(expected)
        assert all(torch.equal(a[0], b[0]) for a, b in zip(seen, expected, strict=True))
        list(chain.settle(name))
