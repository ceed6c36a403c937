"""Networks that change with their mode: by weights of theirs, or by what they compute."""

import pytest
import torch
from torch import nn

import chita
from chita.errors import InputError
from chita.models.mode import evaluation_mode
from chita.pruning.stages import StageLoop
from tests.training.test_fine_tune import tuner

DATA = torch.randn(60, 12, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 4
FEW = chita.Fisher(samples=20)
MASKS = {"0.weight": torch.arange(192).view(16, 12) % 2 == 0}


class Merging(nn.Linear):
    """An adapter that adds itself to the weight in eval mode."""

    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.down = nn.Parameter(torch.randn(2, self.in_features))
        self.up = nn.Parameter(torch.randn(self.out_features, 2))
        self.merged = False

    def train(self, mode=True):
        super().train(mode)
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * self.up @ self.down
            self.merged = not mode
        return self

    def forward(self, x):
        return super().forward(x) + (0 if self.merged else x @ self.down.T @ self.up.T)


class Frozen(nn.Sequential):
    def train(self, mode=True):
        super().train(mode)
        self[1].eval()
        return self


class EvalOnly(nn.Sequential):
    def train(self, mode=True):
        if mode:
            raise RuntimeError("this network is not trained")
        return super().train(mode)


def network(kind=nn.Sequential, layer=nn.Linear):
    torch.manual_seed(1)
    return kind(layer(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))


CALLS = {
    "prune": lambda m: chita.prune(m, DATA, sparsity=0.5, fisher=FEW),
    "in place": lambda m: chita.prune(m, sparsity=0.5, solver="magnitude", inplace=True),
    "plan": lambda m: chita.plan(m, sparsity=0.5),
    "sensitivity": lambda m: chita.sensitivity(m, DATA, sparsities=[0.5], fisher=FEW),
    "apply": lambda m: chita.apply_masks(m, MASKS, inplace=True),
    "enforcer": lambda m: chita.Enforcer(m, MASKS),
}


@pytest.mark.parametrize("training", [True, False])
def test_weights_that_change_with_the_mode_are_refused_and_stay(training):
    model = network(layer=Merging).train(training)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for call in CALLS.values():
        with pytest.raises(InputError, match=r"0\.weight: the values change when the network goes"):
            call(model)
        assert all(torch.equal(tensor, before[n]) for n, tensor in model.state_dict().items())
        assert (model.training, model[0].merged) == (training, not training)


@pytest.mark.parametrize("kind", [Frozen, EvalOnly])
def test_other_networks_with_modes_of_their_own_are_pruned(kind):
    model = network(kind)
    modes = [module.training for module in model.modules()]
    found = chita.prune(model, sparsity=0.5, solver="magnitude")
    assert found.record.nnz == found.record.prunable // 2
    assert [module.training for module in model.modules()] == modes


def test_a_network_that_merges_is_given_back_its_mode():
    model = network(layer=Merging)
    with evaluation_mode(model):
        assert model[0].merged
    assert not model[0].merged


class InTrainMode(nn.Module):
    def __init__(self, otherwise):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.otherwise = nn.Linear(12, 16), nn.Linear(16, 4), otherwise

    def forward(self, x):
        hidden = torch.tanh(self.a(x))
        return self.otherwise(self, hidden) if self.training else self.b(hidden)


def fails(_model, _hidden):
    raise ValueError("give targets")


def asks_for_many(model, hidden):
    assert len(hidden) >= 16
    return model.b(hidden)


OTHERWISE = {
    "two outputs": (lambda m, h: (m.b(h), m.b(h)), "In train mode: InTrainMode returns tuple"),
    "a failure": (fails, r"In train mode: .*the network \(InTrainMode\): ValueError: give targets"),
    "no gradient": (lambda m, h: m.b(h).detach(), "in train mode its loss has no gradient"),
}


def trained(model, monkeypatch):
    """Prune and train, and return how many stages were begun and the result."""
    begun, run = [], StageLoop.run
    monkeypatch.setattr(StageLoop, "run", lambda *args: begun.append(1) or run(*args))
    training = chita.Training(epochs=2, events=2, batch=16)
    try:
        options = {"solver": "magnitude", "sparsity": 0.5, "training": training}
        return begun, chita.prune(model, DATA, **options)
    except InputError as error:
        return begun, error


@pytest.mark.parametrize("name", OTHERWISE)
def test_a_network_that_cannot_be_trained_is_refused_before_work(name, monkeypatch):
    otherwise, words = OTHERWISE[name]
    begun, error = trained(InTrainMode(otherwise), monkeypatch)
    assert begun == []
    with pytest.raises(InputError, match=f"(?s)InTrainMode cannot be trained.*{words}"):
        raise error
    begun, error = trained(network(EvalOnly), monkeypatch)
    assert begun == []
    assert "EvalOnly cannot be trained. In train mode: RuntimeError: this network" in str(error)


def test_it_is_tried_on_a_whole_batch_and_leaves_no_trace(monkeypatch):
    begun, result = trained(InTrainMode(asks_for_many), monkeypatch)
    assert len(begun) == 2
    assert result.record.training.epochs[-1].epoch == 2
    model = nn.Sequential(nn.Dropout(), *network())
    state, drawn = {n: t.clone() for n, t in model.state_dict().items()}, torch.get_rng_state()
    tuner(model, chita.Training(epochs=1, events=1, batch=16), DATA)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
