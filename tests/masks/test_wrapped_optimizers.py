"""What wraps an optimizer keeps the zeros as the one inside does, and what is none is refused."""

import pytest
import torch
from torch import nn

from chita.errors import InputError
from chita.masks.enforce import Enforcer

INPUTS = torch.linspace(-1, 1, 96).view(16, 6)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def masks_of(model):
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(weight.shape, generator=generator) > 0.5
        for name, weight in model.named_parameters()
        if weight.ndim > 1
    }


def sgd(weights):
    return torch.optim.SGD(weights, lr=0.1, momentum=0.9)


class Sharpness(torch.optim.Optimizer):
    """Steps from where it was by the gradients at a place nearby; users call both halves."""

    def __init__(self, weights):
        super().__init__(weights, {})
        self.base_optimizer = sgd(self.param_groups)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def climb(self):
        for weight in self.param_groups[0]["params"]:
            self.state[weight]["before"] = weight.clone()
            weight += 0.1 * weight.grad

    @torch.no_grad()
    def descend(self):
        for weight in self.param_groups[0]["params"]:
            weight.copy_(self.state[weight]["before"])
        self.base_optimizer.step()


class Lookahead:
    """Weights that follow those of another optimizer, from where they were at first."""

    def __init__(self, inner):
        self.fast = inner
        self.slow = [weight.detach().clone() for weight in inner.param_groups[0]["params"]]

    def zero_grad(self):
        self.fast.zero_grad()

    @torch.no_grad()
    def step(self):
        self.fast.step()
        for slow, weight in zip(self.slow, self.fast.param_groups[0]["params"], strict=True):
            slow.lerp_(weight, 0.5)
            weight.copy_(slow)


class Delegating(torch.optim.Optimizer):
    """Passes everything on, and never initialises itself as an optimizer does."""

    def __init__(self, inner):
        self.several = [inner]

    param_groups = property(lambda self: self.several[0].param_groups)
    state = property(lambda self: self.several[0].state)

    def zero_grad(self, set_to_none=True):
        self.several[0].zero_grad(set_to_none)

    def step(self, closure=None):
        self.several[0].step(closure)


def backward(model, optimizer):
    optimizer.zero_grad()
    model(INPUTS).square().mean().backward()


def by_halves(model, optimizer):
    backward(model, optimizer)
    optimizer.climb()
    backward(model, optimizer)
    optimizer.descend()


def plainly(model, optimizer):
    backward(model, optimizer)
    optimizer.step()


WRAPPED = {
    "sharpness": (Sharpness, by_halves),
    "lookahead": (lambda weights: Lookahead(sgd(weights)), plainly),
    "delegating": (lambda weights: Delegating(sgd(weights)), plainly),
    "two": (lambda weights: Lookahead(Delegating(sgd(weights))), plainly),
}


@pytest.mark.parametrize("kind", WRAPPED)
def test_zeros_stay_after_every_step_of_the_outer_one(kind):
    make, step = WRAPPED[kind]
    model = network()
    optimizer = make(list(model.parameters()))
    step(model, optimizer)  # momentum of all weights, before there are masks
    enforcer = Enforcer(model, masks_of(model))
    enforcer.attach(optimizer)
    before = model[0].weight.detach().clone()
    for _ in range(3):
        step(model, optimizer)
        assert not enforcer.refilled()
    assert not torch.equal(model[0].weight, before)
    enforcer.detach()
    assert "step" not in vars(optimizer)
    step(model, optimizer)
    assert enforcer.refilled()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda o: torch.optim.lr_scheduler.StepLR(o, 1), "a StepLR was given"),
        (torch.optim.lr_scheduler.ReduceLROnPlateau, "a ReduceLROnPlateau was given"),
        (lambda _: None, "a NoneType was given"),
        (type, "<class 'torch.optim.sgd.SGD'> was given"),
        (lambda o: [o], "a list was given"),
        (lambda o: torch.amp.GradScaler("cpu"), "a GradScaler was given"),
    ],
)
def test_what_is_no_optimizer_is_refused(make, said):
    model = network()
    given = make(sgd(model.parameters()))
    with pytest.raises(InputError, match=f"`optimizer` takes one torch.optim.Optimizer.*{said}"):
        Enforcer(model, masks_of(model)).attach(given)


def test_weights_that_take_the_place_of_others_are_watched():
    model = network()
    masks = masks_of(model)
    enforcer = Enforcer(model, masks)
    enforcer.attach(sgd(model.parameters()))
    model.load_state_dict({k: v.clone() for k, v in network().state_dict().items()}, assign=True)
    optimizer = sgd(model.parameters())
    enforcer.attach(optimizer)
    backward(model, optimizer)
    for name, mask in masks.items():
        gradient = model.get_parameter(name).grad
        assert not gradient[~mask].any()
        assert gradient[mask].any()


def test_gradients_are_masked_once_unless_they_change_after_the_backward_pass(monkeypatch):
    layer = nn.Linear(4, 4, bias=False)
    optimizer = sgd(layer.parameters())
    enforcer = Enforcer(layer, {"weight": torch.eye(4) > 0})
    enforcer.attach(optimizer)
    filled = []
    fill = enforcer._fill
    monkeypatch.setattr(enforcer, "_fill", lambda *args: (filled.append(args), fill(*args)))
    for change, times in ((lambda g: g, 2), (lambda g: g.add_(1), 3), (torch.ones_like, 3)):
        filled.clear()
        layer(torch.randn(3, 4)).sum().backward()
        layer.weight.grad = change(layer.weight.grad)
        optimizer.step()  # which sets the weights to zero, too
        assert len(filled) == times
        assert not optimizer.state[layer.weight]["momentum_buffer"][0, 1:].any()
        optimizer.zero_grad()
