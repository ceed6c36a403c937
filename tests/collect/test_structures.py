"""Rows of batches that are no simple pairs, against one plain backward per row."""

import pytest
import torch
from torch import nn

from chita.collect.backends import BACKENDS
from chita.data.examples import Examples
from chita.errors import InputError
from chita.losses import LOSSES
from chita.losses.whole import CustomLoss
from chita.models.prunable import prunable_layout
from tests.collect.rows import rows_of
from tests.collect.test_gradients import by_backward
from tests.networks import LanguageModel


def test_dicts_and_several_inputs_by_one_backward_per_row():
    model = TwoInputs().double()
    layout = prunable_layout(model)
    a, b = torch.randn(6, 4).double(), torch.randn(6, 2).double()
    y = torch.randint(3, (6,))
    rows = []
    for i in range(6):
        model.zero_grad()
        nn.functional.cross_entropy(
            model(a[i : i + 1], b[i : i + 1]).logits, y[i : i + 1]
        ).backward()
        rows.append(layout.flatten({n: p.grad for n, p in model.named_parameters()}))
    expected = torch.stack(rows)
    for batch, loss in (
        (((a, b), y), LOSSES["cross_entropy"]),
        (({"b": b, "a": a}, y), LOSSES["cross_entropy"]),
        ({"a": a, "b": b, "labels": y}, LOSSES["model"]),
        ([a, b, y], CustomLoss(lambda m, batch: m(batch[0], batch[1], batch[2]).loss)),
    ):
        for fastest in BACKENDS:
            found = rows_of(model, layout, Examples(batch), loss=loss, fastest=fastest).gather(
                torch.arange(layout.size)
            )
            assert torch.allclose(found.T, expected, atol=1e-12)


class Answer:
    def __init__(self, logits, loss):
        self.logits, self.loss = logits, loss


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(4, 3), nn.Linear(2, 3)

    def forward(self, a, b, labels=None):
        logits = self.left(a) + self.right(b).tanh()
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return Answer(logits, loss)


def test_objects_of_ones_own_are_rows_of_one():
    class Graph:
        def __init__(self, i):
            self.x = torch.full((2 + i, 4), float(i)).double()

    model = nn.Linear(4, 1).double()
    graphs = Examples(*(Graph(i) for i in range(1, 4)))
    loss = CustomLoss(lambda m, graph: m(graph.x).square().mean())
    rows = rows_of(model, prunable_layout(model), graphs, loss=loss)
    for i in range(1, 4):
        model.zero_grad()
        loss.mean(model, Graph(i)).backward()
        assert torch.allclose(rows.gather(torch.arange(4))[:, i - 1], model.weight.grad[0])
    with pytest.raises(InputError, match="whole gradients of 2"):
        rows_of(model, prunable_layout(model), graphs, loss=loss, samples_per_gradient=2)


def test_batches_of_different_padding_make_rows_in_their_order():
    model = LanguageModel().double()
    layout = prunable_layout(model, targets=["embed"])
    parts = [(torch.randint(5, (4, n)), torch.randint(5, (4,))) for n in (3, 5)]
    rows = rows_of(model, layout, Examples(*parts), samples_per_gradient=2)
    expected = torch.cat([by_backward(model, layout, Examples(part), 2) for part in parts])
    assert torch.allclose(rows.gather(torch.arange(layout.size)).T, expected, atol=1e-12)
    with pytest.raises(InputError, match="would mix batches of different shapes"):
        rows_of(model, layout, Examples(*parts), samples_per_gradient=8)


def test_a_failure_in_a_late_row_names_its_place_too():
    model = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(20, 3))
    ids = torch.randint(10, (200, 5))
    ids[-1, 0] = 50
    with pytest.raises(InputError, match=r"fails in 0 \(Embedding\): IndexError"):
        rows_of(model, prunable_layout(model), Examples((ids, torch.randint(3, (200,)))))
    batch = {"a": torch.randn(200, 4), "b": torch.randn(200, 2), "labels": torch.zeros(200).long()}
    batch["labels"][-1] = 7
    with pytest.raises(InputError, match="IndexError"):
        rows_of(TwoInputs(), prunable_layout(TwoInputs()), Examples(batch), loss=LOSSES["model"])


def test_images_of_several_sizes_regress_one_by_one():
    model = nn.Conv2d(1, 1, 3, padding=1).double()
    parts = [(torch.randn(3, 1, n, n).double(), torch.randn(3, 1, n, n).double()) for n in (4, 6)]
    layout = prunable_layout(model)
    rows = rows_of(model, layout, Examples(*parts), loss=LOSSES["mse"])
    assert rows.n == 6
    wrong = (torch.randn(3, 1, 5, 5).double(), torch.randn(3, 1, 4, 4).double())
    with pytest.raises(InputError, match="shaped as the outputs"):
        rows_of(model, layout, Examples(parts[0], wrong), loss=LOSSES["mse"])
