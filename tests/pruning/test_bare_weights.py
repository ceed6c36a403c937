"""Weights of no layer: named they are pruned matrix by matrix, otherwise the result says so."""

import io

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.nn import functional
from transformers import (
    GptOssConfig,
    GptOssForCausalLM,
    Llama4ForCausalLM,
    Llama4TextConfig,
    MixtralConfig,
    MixtralForCausalLM,
)

import chita
from chita.errors import InputError
from chita.layout import Axes, Layout
from chita.models.targets import decide
from chita.reports.terminal import show_run


class Experts(nn.Module):
    is_transposed = False

    def __init__(self, count=3, width=8):
        super().__init__()
        self.up = nn.Parameter(torch.randn(count, 2 * width, width))
        self.down = nn.Parameter(torch.randn(count, width, 2 * width))

    def forward(self, x, gates):
        inner = (torch.relu(functional.linear(x, up)) for up in self.up)
        outputs = [functional.linear(h, down) for h, down in zip(inner, self.down, strict=True)]
        return (torch.stack(outputs, -1) * gates.unsqueeze(1)).sum(-1)


class Turned(nn.Module):
    """Its experts hold the inputs first, and it says so, as modules of transformers do."""

    is_transposed = True

    def __init__(self):
        super().__init__()
        self.up = nn.Parameter(torch.randn(3, 8, 8))

    def forward(self, x, gates):
        return (torch.einsum("bi,eio->boe", x, self.up) * gates.unsqueeze(1)).sum(-1)


class Mixture(nn.Module):
    def __init__(self, experts):
        super().__init__()
        self.router, self.experts, self.head = nn.Linear(8, 3), experts, nn.Linear(8, 5)

    def forward(self, x):
        return self.head(self.experts(x, self.router(x).softmax(-1)))


class Own(nn.Module):
    """A linear layer that is no `nn.Linear`."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(8, 8))

    def forward(self, x, _gates):
        return x @ self.matrix


def mixture(experts=Experts):
    torch.manual_seed(0)
    return Mixture(experts())


def summary(record):
    stream = io.StringIO()
    show_run(record, Console(file=stream, width=10_000))
    return stream.getvalue()


DATA = torch.randn(60, 8, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 5


@pytest.mark.parametrize("solver", ["magnitude", "chita"])
@pytest.mark.parametrize(
    ("experts", "along"), [(Experts, -1), (Turned, 1)], ids=["out, in", "in, out"]
)
def test_a_pattern_runs_along_the_inputs_of_every_expert(experts, along, solver):
    options = {} if solver == "magnitude" else {"fisher": chita.Fisher(samples=40)}
    names = [f"experts.{name}" for name, _ in experts().named_parameters()]
    result = chita.prune(
        mixture(experts), DATA, solver=solver, budget="2:4", targets=names, **options
    )
    for name in names:
        kept = result.masks[name].movedim(along, -1).unflatten(-1, (-1, 4)).sum(-1)
        assert bool((kept == 2).all())
        assert torch.equal(result.model.get_parameter(name) != 0, result.masks[name])
    assert not result.record.notes


def test_a_run_folder_is_verified_along_the_same_inputs(tmp_path):
    result = chita.prune(mixture(), solver="magnitude", budget="2:4", targets=["Experts"])
    result.save(tmp_path / "run")
    found = chita.verify(tmp_path / "run")
    assert "pattern" in found.checked
    assert not found.faults


class Unsaid(Experts):
    """Experts that do not say which of their dimensions runs over the inputs."""

    is_transposed = None


@pytest.mark.parametrize("budget", ["2:4", "4x1 & sparsity=0.5", chita.PerOutput(0.5)])
@pytest.mark.parametrize("experts", [Unsaid, Own])
def test_where_nothing_tells_the_inputs_no_pattern_is_guessed(experts, budget):
    model = mixture(experts)
    name = "experts.up" if experts is Unsaid else "experts.matrix"
    options = {"solver": "magnitude", "targets": [name, "head"]}
    with pytest.raises(InputError, match=rf"{name}: no layer's weights, of which nothing tells"):
        chita.prune(model, budget=budget, **options)
    assert chita.prune(model, sparsity=0.5, **options).masks.keys() == {name, "head.weight"}
    model.experts.is_transposed = True
    if budget == "2:4":
        mask = chita.prune(model, budget=budget, **options).masks[name]
        assert bool((mask.movedim(-2, -1).unflatten(-1, (-1, 4)).sum(-1) == 2).all())


def test_blocks_and_rows_are_those_of_every_expert():
    found = chita.prune(
        mixture(), solver="magnitude", budget=chita.PerOutput(0.5), targets="experts.up"
    )
    assert bool((found.masks["experts.up"].sum(-1) == 4).all())
    assert found.record.layers[0].dead_outputs == 0
    found = chita.prune(
        mixture(), solver="magnitude", budget="8x1 & sparsity=0.5", targets="experts.up"
    )
    whole = found.masks["experts.up"].unflatten(1, (2, 8)).sum(2)
    assert set(whole.flatten().tolist()) == {0, 8}


def test_outputs_are_rows_of_experts():
    axes = (Axes(output=1, input=2), Axes(output=2, input=1))
    layout = Layout(names=("a", "b"), shapes=((2, 3, 4), (2, 4, 3)), axes=axes)
    lengths = [part.stop - part.start for part in layout.outputs]
    assert lengths == [4] * 6 + [12] * 2  # inputs first: the outputs of a matrix interleave
    weight = torch.arange(24).view(2, 3, 4)
    assert torch.equal(axes[0].by_output(weight), weight.view(6, 4))
    assert torch.equal(axes[1].by_output(weight.mT.contiguous()), weight.view(6, 4))
    assert torch.equal(axes[1].matrices(weight.mT.contiguous()), weight)


@pytest.mark.parametrize(
    ("experts", "named", "share"),
    [
        (Experts, "experts.up, experts.down", 768 / 832),
        (Turned, "experts.up", 192 / 256),
        (Own, "experts.matrix", 64 / 128),
    ],
)
def test_what_was_left_out_and_how_much_it_is_are_said(experts, named, share):
    result = chita.prune(mixture(experts), solver="magnitude", sparsity=0.5)
    (line,) = result.record.notes
    assert f"not pruned: {named}, which belong to no layer and hold {share:.2%}" in line
    assert line in repr(result)
    assert line in summary(result.record)


def test_layer_by_layer_experts_are_refused_by_name_and_left_out_with_a_line():
    with pytest.raises(InputError, match=r"experts.up \(Experts\)"):
        chita.prune(mixture(), DATA, solver="alps", sparsity=0.5, targets=["Experts", "Linear"])
    result = chita.prune(mixture(), DATA, solver="alps", sparsity=0.5)
    assert "experts.up" in result.record.notes[0]


def test_many_tensors_are_counted():
    network = nn.ModuleList([Mixture(Experts()) for _ in range(4)])
    result = chita.prune(network, solver="magnitude", sparsity=0.5)
    said = "0.experts.up, 0.experts.down, 1.experts.up and 5 others"
    (line,) = result.record.notes
    assert f"{said}, which belong to no layer and hold {768 / 832:.2%} of" in line


def test_small_tables_and_ignored_ones_are_not_worth_a_line():
    network = nn.Sequential(nn.Linear(100, 100))
    network.table = nn.Parameter(torch.zeros(1, 5, 10))
    assert not chita.prune(network, solver="magnitude", sparsity=0.5).record.notes
    ignoring = {"solver": "magnitude", "sparsity": 0.5, "ignore": "experts"}
    assert not chita.prune(mixture(), **ignoring).record.notes


@pytest.mark.parametrize("rule", ["Experts", "experts", "exp*", "re:.*perts"])
def test_a_rule_that_reaches_no_layer_reaches_experts(rule):
    pruned = {d.role.name for d in decide(mixture(), targets=rule) if d.pruned}
    assert pruned == {"experts.up", "experts.down"}
    among = {d.role.name for d in decide(mixture(), targets=[rule, "Mixture"]) if d.pruned}
    assert among == pruned | {"router.weight", "head.weight"}


def test_a_rule_that_reaches_layers_reaches_no_experts():
    pruned = {d.role.name for d in decide(mixture(), targets="Mixture") if d.pruned}
    assert pruned == {"router.weight", "head.weight"}


SMALL = {
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def _check_inputs(experts, along):
    """Check that the hidden size, which the first product sums over, is where it is expected."""
    assert experts.gate_up_proj.shape[along] == SMALL["hidden_size"]
    assert experts.gate_up_proj.shape[3 - along] == 2 * SMALL["intermediate_size"]


@pytest.mark.parametrize(
    ("network", "config", "along"),
    [
        (MixtralForCausalLM, MixtralConfig, 2),
        (GptOssForCausalLM, GptOssConfig, 1),
        (Llama4ForCausalLM, Llama4TextConfig, 1),
    ],
)
def test_experts_of_transformers(network, config, along):
    torch.manual_seed(0)
    extra = {"interleave_moe_layer_step": 1} if config is Llama4TextConfig else {}
    model = network(config(**SMALL, head_dim=8, **extra)).eval()
    part = "feed_forward" if config is Llama4TextConfig else "mlp"
    experts = model.model.layers[0].get_submodule(f"{part}.experts")
    kind = type(experts).__name__
    _check_inputs(experts, along)
    said = chita.prune(model, solver="magnitude", sparsity=0.5).record.notes
    assert f"experts.gate_up_proj, model.layers.0.{part}.experts.down_proj" in said[0]
    result = chita.prune(model, solver="magnitude", budget="2:4", targets=[kind, "Linear"])
    experts = {name: mask for name, mask in result.masks.items() if "experts" in name}
    assert len(experts) == 2
    for mask in experts.values():
        assert bool((mask.movedim(along, -1).unflatten(-1, (-1, 4)).sum(-1) == 2).all())
    assert not any("experts" in line for line in result.record.notes)
