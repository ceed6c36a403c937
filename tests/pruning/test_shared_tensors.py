"""A tensor that all samples of a batch share is never cut, whatever its size is by chance."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import chita
from chita.data.examples import Examples

STEPS = 5
CAUSAL = torch.full((STEPS, STEPS), -torch.inf).triu(1)
GIVEN = {
    "sparsity": 0.5,
    "validation": 0,
    "fisher": chita.Fisher(samples=4, structure="full"),
    "quadratic": chita.Quadratic(ridge=0.1, first_order=0, step_size=1),
}


class Attending(nn.Module):
    """Attention with a mask, which remembers the shapes of the masks that it saw."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.keys, self.values = nn.Linear(4, 4), nn.Linear(4, 3)
        self.seen = set()

    def forward(self, x, mask):
        self.seen.add(tuple(mask.shape))
        return ((x @ self.keys(x).transpose(1, 2) + mask).softmax(-1) @ self.values(x)).mean(1)


def batches(sizes, mask):
    """Batches of these sizes, each with what `mask` returns."""
    torch.manual_seed(0)
    return [
        {"x": torch.randn(n, STEPS, 4), "mask": mask(), "y": torch.randint(3, (n,))} for n in sizes
    ]


def loss(model, batch):
    return cross_entropy(model(batch["x"], batch["mask"]), batch["y"])


def pruned(data, **others):
    """The network after pruning it in place."""
    network = Attending()
    chita.prune(network, data, loss=loss, inplace=True, **{**GIVEN, **others})
    return network


@pytest.mark.parametrize("validation", [0, 2])
@pytest.mark.parametrize(
    ("sizes", "mask"),
    [
        ([STEPS] * 8, lambda: CAUSAL),
        ([STEPS, *[3] * 8], CAUSAL.clone),
        ([*[3] * 8, STEPS], CAUSAL.clone),
        ([3, STEPS] * 4, CAUSAL.clone),
    ],
    ids=["same-object", "first-by-chance", "last-by-chance", "every-other"],
)
def test_what_other_batches_show_to_be_shared_stays_whole(sizes, mask, validation):
    fisher = chita.Fisher(samples=len(sizes) - validation, structure="full")
    found = pruned(batches(sizes, mask), validation=validation, fisher=fisher)
    assert found.seen == {(STEPS, STEPS)}


def test_batches_with_a_shared_tensor_are_one_sample_each_whatever_their_size():
    by_chance = batches([STEPS] * 4, lambda: CAUSAL)
    assert len(Examples(*by_chance)) == 4
    assert len(Examples(*batches([STEPS, 3, 3], CAUSAL.clone))) == 3
    separable = [{"x": b["x"], "y": b["y"]} for b in by_chance]
    assert len(Examples(*separable)) == 4 * STEPS
    assert len(Examples(by_chance[0], by_chance[0])) == 2 * STEPS  # the same batch twice


def test_the_mean_over_batches_does_not_weigh_one_by_a_size_of_chance():
    given = batches([STEPS, 3, 4], CAUSAL.clone)
    network = Attending()
    with torch.no_grad():
        expected = sum(float(loss(network, batch)) for batch in given) / 3
    assert chita.evaluate(network, given, loss=loss).value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "data",
    [
        batches([STEPS] * 8, CAUSAL.clone),
        batches([STEPS], CAUSAL.clone),
        batches([STEPS], CAUSAL.clone)[0],
        batches([STEPS] * 8, lambda: torch.randn(STEPS, STEPS)),
    ],
    ids=["made-again", "one-batch", "at-once", "of-its-own"],
)
@pytest.mark.parametrize("validation", [0, 1])
def test_what_nothing_shows_to_be_shared_is_named(data, validation):
    with pytest.raises(chita.InputError, match=r"batch\['mask'\].*by chance.*belongs into the net"):
        pruned(data, validation=validation)


def test_outputs_that_are_compared_with_targets_are_checked_too():
    x, y = torch.randn(STEPS, STEPS, 4), torch.randint(3, (STEPS,))
    with pytest.raises(chita.InputError, match=r"batch\[0\]\[1\]"):
        chita.prune(Attending(), ((x, CAUSAL), y), **GIVEN)


class TimeFirst(nn.Module):
    """A recurrent network whose first dimension is time."""

    def __init__(self):
        super().__init__()
        self.cell, self.head = nn.RNN(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.cell(x)[0]).movedim(-1, 1)


def test_steps_of_time_are_no_samples():
    data = [(torch.randn(9, 2, 4), torch.randint(3, (9, 2))) for _ in range(6)]
    with pytest.raises(chita.InputError, match=r"depends on the order of its entries"):
        chita.prune(TimeFirst(), data, **GIVEN)


def test_class_weights_in_batches_of_as_many_samples_as_classes_are_whole():
    def weighted(model, batch):
        return cross_entropy(model(batch["x"]).mean(1), batch["y"], weight=batch["w"])

    weights = torch.tensor([0.5, 1.0, 4.0])
    data = [{**batch, "w": weights} for batch in batches([3] * 6, lambda: None)]
    network = nn.Linear(4, 3)
    assert chita.prune(network, data, loss=weighted, **GIVEN).record.nnz == 6


def test_masks_of_padding_as_long_as_the_batch_are_cut_as_before():
    seen = set()

    def pooled(model, batch):
        seen.add(tuple(batch["mask"].shape))
        mask = batch["mask"].unsqueeze(2)
        return cross_entropy((model(batch["x"]) * mask).sum(1) / mask.sum(1), batch["y"])

    data = batches([STEPS] * 8, lambda: torch.ones(STEPS, STEPS).tril())
    chita.prune(nn.Linear(4, 3), data, loss=pooled, **GIVEN)
    assert (1, STEPS) in seen
