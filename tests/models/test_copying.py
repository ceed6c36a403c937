"""A copy uses nothing of the network that it was made of, or the network is refused by name."""

import copy
import functools
import weakref

import pytest
import torch
from torch import nn

import chita
from chita.errors import InputError
from chita.models.copying import copied

DATA = torch.randn(60, 12, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 4
FEW = chita.Fisher(samples=20)
GLOBAL = None


class Network(nn.Module):
    """Its first step is what a subclass makes of it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(12, 12), nn.Linear(12, 4)
        self.make()

    def make(self):
        self.step = self.a

    def named_step(self, x):
        return self.a(x)

    def forward(self, x):
        return self.b(torch.tanh(self.step(x)))


class Closure(Network):
    def make(self):
        self.step = lambda x: self.a(x)  # noqa: PLW0108 (what it holds is the matter)


class InList(Network):
    def make(self):
        self.steps = {"first": [lambda x: self.a(x)]}  # noqa: PLW0108

    def step(self, x):
        return self.steps["first"][0](x)


class Hooked(Network):
    def make(self):
        held = self.a
        self.step = nn.Identity()
        self.b.register_forward_pre_hook(lambda _, inputs: (held(*inputs),))


class Weak(Network):
    def make(self):
        self.reference = weakref.ref(self.a)

    def step(self, x):
        return self.reference()(x)


class OfParameter(Network):
    def make(self):
        weight = self.a.weight
        self.step = lambda x: x @ weight.T


class Builtin(Network):
    def make(self):
        self.step = self.a.weight.matmul


class Noted(Network):
    """A hook of the copy would write where the copy does not look."""

    def make(self):
        noted = self.noted = {}
        self.a.register_forward_hook(lambda _, __, out: noted.update(a=out))

    def step(self, x):
        self.a(x)
        return self.noted["a"]


class Global(Network):
    def make(self):
        self.step = lambda x: torch.cat([GLOBAL.a(part) for part in (x,)])


class OwnClass(Network):
    def make(self):
        forward = super().forward
        kind = type("Patched", (Network,), {"forward": lambda _, x: forward(x)})
        self.step, self.__class__ = self.a, kind


class Sharing(Network):
    def __deepcopy__(self, memo):
        made = Sharing()
        made.a = made.step = self.a
        return made


REFUSED = {
    Closure: r"The network \(Closure\) holds the function <lambda> .* to the network itself",
    InList: r"The network \(InList\) holds the function <lambda> .* to the network itself",
    Hooked: r"b \(Linear\) holds the function <lambda> that refers to a of the network",
    Weak: r"The network \(Weak\) holds an object that refers to a of the network",
    OfParameter: r"refers to a\.weight of the network",
    Builtin: r"refers to a\.weight of the network",
    Noted: r"a \(Linear\) holds .* refers to noted of the network",
    Global: "refers to the network itself",
    OwnClass: "refers to the network itself",
    Sharing: r"A copy of Sharing shares a\.weight with the network",
}
CALLS = {
    "prune": lambda m: chita.prune(m, DATA, sparsity=0.5, fisher=FEW),
    "magnitude": lambda m: chita.prune(m, sparsity=0.5, solver="magnitude"),
    "layers": lambda m: chita.prune(m, DATA, sparsity=0.5, fisher=FEW, solver="alps"),
    "sensitivity": lambda m: chita.sensitivity(m, DATA, sparsities=[0.5], fisher=FEW),
    "apply": lambda m: chita.apply_masks(m, {"a.weight": torch.eye(12)}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_copy_that_would_use_the_network_is_refused_everywhere(kind, monkeypatch):
    model = kind()
    monkeypatch.setitem(globals(), "GLOBAL", model)
    for call in CALLS.values():
        with pytest.raises(InputError, match=REFUSED[kind]):
            call(model)
    found = chita.prune(model, sparsity=0.5, solver="magnitude", inplace=True)
    assert not found.model.a.weight[~found.masks["a.weight"]].any()


def test_copies_inside_a_run_are_looked_at_too():
    options = {"sparsity": 0.5, "fisher": FEW, "inplace": True}
    with pytest.raises(InputError, match="Pilot runs work on copies: give `ridge`"):
        chita.prune(Closure(), DATA, stages=2, solver="bso", **options)
    training = chita.Training(epochs=4, distillation=0.5)
    with pytest.raises(InputError, match="leave `distillation` out"):
        chita.prune(Closure(), DATA, training=training, **options)


class Bound(Network):
    def make(self):
        self.step = self.named_step


class Partial(Network):
    def make(self):
        self.step = functools.partial(Network.named_step, self)


class Recording(Network):
    def make(self):
        self.step, seen = self.a, []
        self.handle = self.a.register_forward_hook(lambda _, __, out: seen.append(out.sum()))


class Named(Network):
    """A global variable and an attribute have one name."""

    def make(self):
        self.GLOBAL, self.called = self.a, lambda net, x: net.GLOBAL(x)

    def step(self, x):
        return self.called(self, x)


class Frozen(Network):
    """What a copy shares on purpose is not written."""

    def make(self):
        self.step = nn.Linear(12, 12)

    def __deepcopy__(self, memo):
        made = Frozen()
        made.a, made.b, made.step = copy.deepcopy(self.a), copy.deepcopy(self.b), self.step
        return made


@pytest.mark.parametrize("kind", [Bound, Partial, Recording, Named, Frozen])
def test_others_are_copied_and_run_their_own(kind, monkeypatch):
    model = kind()
    monkeypatch.setitem(globals(), "GLOBAL", model)
    made = copied(model, written=["a.weight", "b.weight"])
    with torch.no_grad():
        model.a.weight.zero_()
        model.b.weight.zero_()
        expected = kind()(DATA[0])
    torch.testing.assert_close(made(DATA[0]), expected)


PROGRAMS = [
    torch.fx.symbolic_trace,
    lambda net: nn.Sequential(torch.compile(net[0], backend="eager"), *net[1:]),
    pytest.param(
        lambda net: torch.export.export(net, (DATA[0][:2],)).module(), marks=pytest.mark.slow
    ),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("made", PROGRAMS, ids=["traced", "compiled", "exported"])
def test_programs_and_compiled_parts_are_copied(made):
    model = made(nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4)).eval())
    assert copied(model) is not model
