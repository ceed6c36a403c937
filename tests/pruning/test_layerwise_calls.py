"""Layer by layer where calls depend on values, or weights have other uses than those seen."""

import pytest
import torch
from torch import nn

import chita


class Routed(nn.Module):
    """Each sample goes to the expert that a router, which is not pruned, prefers."""

    def __init__(self):
        super().__init__()
        self.first, self.gate = nn.Linear(6, 8), nn.Linear(8, 4)
        self.experts = nn.ModuleList([nn.Linear(8, 8) for _ in range(4)])
        self.last = nn.Linear(8, 3)

    def forward(self, x):
        h = self.first(x).tanh()
        preferred, out = self.gate(h).argmax(1), torch.zeros_like(h)
        for i, expert in enumerate(self.experts):
            (at,) = (preferred == i).nonzero(as_tuple=True)
            if len(at):
                out[at] = expert(h[at])
        return self.last(out.relu())


class Halting(nn.Module):
    """Repeats a cell until a batch hardly changes."""

    def __init__(self):
        super().__init__()
        self.first, self.cell, self.last = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x):
        h, change = self.first(x), 1.0
        while change > 0.3:
            new = self.cell(h).tanh()
            h, change = new, float((new - h).abs().max())
        return self.last(h)


def whole_passes(model, batches, names):
    """The masks of `names`, in order: each by the inputs of all batches, in whole passes."""
    masks = {}
    for name in names:
        layer, seen = model.get_submodule(name.removesuffix(".weight")), []
        handle = layer.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0]))
        with torch.no_grad():
            for batch in batches:
                model(batch)
        handle.remove()
        if seen:
            scores = layer.weight.detach().abs() * torch.cat(seen).square().sum(0).sqrt()
            masks[name] = scores > scores.sort(1).values[:, [scores.shape[1] // 2 - 1]]
            layer.weight.data *= masks[name]
    return masks


@pytest.mark.parametrize("make", [Routed, Halting])
@pytest.mark.parametrize("seed", range(3))
def test_every_layer_is_pruned_on_all_that_it_gets(make, seed):
    torch.manual_seed(seed)
    model = make()
    batches = torch.randn(96, 6).sort(dim=0).values.split(8)  # not all experts see the first
    found = chita.prune(
        model,
        [(batch, torch.zeros(8).long()) for batch in batches],
        solver="wanda",
        budget=chita.PerOutput(0.5),
        fisher=chita.Fisher(samples=96),
        ignore=["gate"] if make is Routed else (),
    )
    used = [layer.name for layer in found.layers if layer.solved.skipped is None]
    expected = whole_passes(model, batches, [layer.name for layer in found.layers])
    assert used == list(expected)
    for name, mask in expected.items():
        assert torch.equal(found.masks[name], mask)


class Tied(nn.Module):
    """A head with the weight of the embedding."""

    def __init__(self):
        super().__init__()
        self.embed, self.mid = nn.Embedding(20, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 20, bias=False)
        self.head.weight = self.embed.weight
        self.listed = nn.ParameterList([self.mid.weight])  # which computes nothing

    def forward(self, ids):
        return self.head(self.mid(self.embed(ids)).relu()).mean(1)


class Inside(nn.Module):
    """A network in one block."""

    def __init__(self, block):
        super().__init__()
        self.blocks = nn.ModuleList([block])

    def forward(self, ids):
        return self.blocks[0](ids)


@pytest.mark.parametrize("inside", ["", "blocks.0."])
def test_a_weight_that_is_an_embedding_too_is_left_dense(inside):
    model = Inside(Tied()) if inside else Tied()
    ids = torch.randint(20, (64, 5))
    found = chita.prune(
        model,
        (ids, ids[:, 0]),
        solver="wanda",
        sparsity=0.5,
        fisher=chita.Fisher(samples=64),
        targets=[f"{inside}embed.weight", f"{inside}mid.weight"],
    )
    reasons = {layer.name.split(".")[-2]: layer.solved.skipped for layer in found.layers}
    held = f"is also held by {inside}embed (Embedding), whose use is not seen"
    assert reasons == {"head": held, "mid": None}
    assert found.masks[f"{inside}head.weight"].all()
