"""Networks whose state dict says something else: what a run keeps and restores is their tensors."""

import pytest
import torch
from torch import nn

import chita
from chita.models.mode import restore, state_of, tensors_of
from chita.pruning import stages
from tests.pruning.cases import GIVEN


class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 16), nn.Linear(16, 4)
        self.register_buffer("scale", torch.ones(1), persistent=False)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x))) * self.scale


class Renames(Plain):
    def state_dict(self, *args, **kwargs):
        found = super().state_dict(*args, **kwargs)
        return {f"enc.{n}" if n.startswith("a.") else n: v for n, v in found.items()}


class Halves(Plain):
    def state_dict(self, *args, **kwargs):
        return {n: v.half() for n, v in super().state_dict(*args, **kwargs).items()}


class Stop(Exception):
    """The power is cut."""


def built(kind):
    torch.manual_seed(3)
    return kind()


@pytest.mark.parametrize("kind", [Renames, Halves])
def test_a_run_goes_on_and_pilots_are_taken_over_as_of_a_plain_network(kind, tmp_path, monkeypatch):
    data = (torch.randn(120, 12), torch.arange(120) % 4)
    options = {**GIVEN, "sparsity": 0.8, "stages": 3, "fisher": chita.Fisher(samples=40)}
    expected = chita.prune(built(Plain), data, **options)
    file, original, done = tmp_path / "unfinished", stages.StageLoop._run_stage, []

    def failing(self, *args):
        if len(done) == 2:
            raise Stop
        done.append(0)
        original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(stages.StageLoop, "_run_stage", failing)
        with pytest.raises(Stop):
            chita.prune(built(kind), data, checkpoint=file, **options)
    resumed = chita.Checkpoint(file, resume=True)
    again = chita.prune(built(kind), data, checkpoint=resumed, **options)
    for name, weights in expected.model.named_parameters():
        assert torch.equal(weights, again.model.get_parameter(name))
    tuned = {**options, "quadratic": chita.Quadratic()}
    ours, theirs = (chita.prune(built(k), data, **tuned).model for k in (kind, Plain))
    for name, weights in theirs.named_parameters():
        assert torch.equal(weights, ours.get_parameter(name))


def test_all_that_a_network_computes_with_is_kept():
    model = built(Renames)
    assert set(tensors_of(model)) == {"a.weight", "a.bias", "b.weight", "b.bias", "scale"}
    state = state_of(model)
    with torch.no_grad():
        for tensor in tensors_of(model).values():
            tensor.add_(1)
    restore(model, state)
    for name, tensor in tensors_of(model).items():
        assert torch.equal(tensor, state[name])
