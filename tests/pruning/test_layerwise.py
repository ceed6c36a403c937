"""Pruning layer by layer, against running the whole network for every block."""

import pytest
import torch
from torch import nn

import chita
from chita.constraints import ByOutliers, Sparsity
from chita.data.digits import digits
from chita.errors import InputError
from chita.models.blocks import network_blocks
from chita.models.prunable import prunable_layout
from chita.problem import InputGram, LocalQuadratic
from chita.pruning.layer_matrices import layers_of, outlier_shares
from chita.solvers import ALPS, BSO, SparseGPT
from tests.families.language import FAMILIES
from tests.families.transformers import SHAPES

TRANSFORMERS = {**FAMILIES, **SHAPES}
PLAIN = {"stages": chita.Stages(bn_recalibrate=False), "fisher": chita.Fisher(samples=24)}


def inputs_of(model, modules, batch):
    """What modules, by name, are given while the network runs on a batch."""
    seen = {name: [] for name in modules}
    handles = [
        module.register_forward_pre_hook(lambda _, args, name=name: seen[name].append(args[0]))
        for name, module in modules.items()
    ]
    with torch.no_grad():
        model(**batch) if isinstance(batch, dict) else model(batch[0])
    for handle in handles:
        handle.remove()
    return {n: torch.cat([x.reshape(-1, x.shape[-1]) for x in xs]) for n, xs in seen.items() if xs}


def one_after_another(model, layout, batch, sparsity, solver, ridge=0.01):
    """Linear layers, block by block, each on what it is given in the network as it is by then."""
    layers = {layer.name: layer for layer in layers_of(model, layout)}
    blocks = {block.name: block for block in network_blocks(model, layout.names)}
    order, errors = [], {}
    handles = [
        model.get_submodule(n).register_forward_pre_hook(lambda *_, n=n: order.append(n))
        for n in blocks
    ]
    with torch.no_grad():
        model(**batch)
    for handle in handles:
        handle.remove()
    for name in dict.fromkeys(order):
        modules = {tensor: layers[tensor].modules[0] for tensor in blocks[name].tensors}
        for tensor, x in inputs_of(model, modules, batch).items():
            layer, weight = layers[tensor], modules[tensor].weight
            turned = layer.turned
            w = (weight.T if turned else weight).detach().clone()
            gram = x.double().T @ x.double() / len(x)
            curvature = InputGram(gram, len(w), dtype=w.dtype)
            problem = LocalQuadratic(
                w_bar=w.flatten(),
                curvature=curvature,
                shift=curvature.constant(0.0),
                ridge=ridge * float(gram.diagonal().mean()),
            )
            constraint = Sparsity(sparsity).bind(layer.canonical)
            new = solver.solve(problem, constraint).weights.view_as(w)
            errors[tensor] = float((x @ (new - w).T).square().sum() / (x @ w.T).square().sum())
            with torch.no_grad():
                weight.copy_(new.T if turned else new)
    return errors


FAST = ("gpt2", "llama", "t5")


@pytest.mark.parametrize(
    ("name", "solver"),
    [
        pytest.param(
            name,
            solver,
            marks=() if name in FAST and solver == BSO() else pytest.mark.slow,
        )
        for name in TRANSFORMERS
        for solver in (BSO(), SparseGPT())
    ],
)
def test_every_layer_is_pruned_on_what_it_gets_by_then(name, solver):
    family = TRANSFORMERS[name]
    model, batch = family.build(), family.data()
    ignored = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    found = chita.prune(
        model, batch, sparsity=0.5, solver=solver, layerwise=True, ignore=ignored, **PLAIN
    )
    layout = prunable_layout(model, ignore=ignored)
    errors = one_after_another(model, layout, batch, 0.5, solver)
    assert {layer.name for layer in found.layers if layer.solved.skipped is None} == errors.keys()
    for layer in found.layers:
        ours = found.model.get_parameter(layer.name)
        assert layer.kept == int((ours != 0).sum()) == found.masks[layer.name].sum()
        assert torch.allclose(ours, model.get_parameter(layer.name), rtol=1e-2, atol=2e-3)
        if layer.solved.skipped is None:
            assert layer.solved.error == pytest.approx(errors[layer.name], rel=2e-2, abs=1e-5)


class Experts(nn.Module):
    """A block of two experts, of which the second sees two tokens; a layer that is never called."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList([nn.Linear(8, 8) for _ in range(3)])
        self.spare = nn.Linear(8, 8)

    def forward(self, x):
        y = self.experts[0](x)
        few = self.experts[1](x.reshape(-1, 8)[:2])
        return y + few.sum() + self.experts[2](x * 0)


class Sparse(nn.Module):
    """A network of such a block."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Experts()])

    def forward(self, x):
        return self.layers[0](x).mean(1)


def test_experts_that_saw_too_little_are_left_dense_and_named():
    model = Sparse()
    data = (torch.randn(16, 5, 8), torch.zeros(16).long())
    found = chita.prune(model, data, sparsity=0.5, solver="alps", fisher=chita.Fisher(samples=16))
    skipped = {layer.name.partition("layers.0.")[2]: layer.solved.skipped for layer in found.layers}
    assert skipped == {
        "experts.0.weight": None,
        "experts.1.weight": "saw 2 inputs, fewer than the 8 entries of each",
        "experts.2.weight": "saw only zeros",
        "spare.weight": "saw no input",
    }
    assert [layer.kept for layer in found.layers] == [32, 64, 64, 64]
    for layer in found.layers[1:]:
        assert torch.equal(found.model.get_parameter(layer.name), model.get_parameter(layer.name))


def test_few_tokens_leave_a_singular_gram_which_a_larger_ridge_makes_good():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 3))
    data = (torch.randn(9, 20), torch.zeros(9).long())
    for solver in ("alps", "obc", "sparsegpt", "bso", "chita"):
        options = {
            "sparsity": 0.5,
            "solver": solver,
            "layerwise": True,
            "fisher": chita.Fisher(samples=9),
        }
        usual = chita.prune(model, data, **options)
        assert all(layer.solved.ridge > 0 for layer in usual.layers)
        raised = chita.prune(model, data, quadratic=chita.Quadratic(ridge=0.0), **options)
        if solver in ("obc", "sparsegpt"):  # which invert the whole Gram
            assert 0 < raised.layers[0].solved.ridge < usual.layers[0].solved.ridge
            assert raised.layers[0].solved.ridge_raised
        assert not any(layer.solved.ridge_raised for layer in usual.layers)
        for layer in raised.layers:
            assert layer.kept == layer.weights // 2
            assert layer.solved.error < 1


@pytest.mark.parametrize("solver", ["alps", "sparsegpt", "magnitude"])
def test_nothing_and_all_but_one_weight_are_removed(solver):
    model, batch = FAMILIES["gpt2"].build(), FAMILIES["gpt2"].data()
    options = {"solver": solver, "layerwise": True, "ignore": "lm_head", **PLAIN}
    none = chita.prune(model, batch, sparsity=0.0, **options)
    for layer in none.layers:
        assert layer.kept == layer.weights
        assert layer.solved.error == pytest.approx(0.0, abs=1e-6)
    p = none.record.prunable
    one = chita.prune(model, batch, budget=chita.Nonzeros(len(none.layers)), **options)
    assert [layer.kept for layer in one.layers] == [1] * len(one.layers)
    assert one.record.nnz == len(one.layers) < p


@pytest.mark.parametrize(
    "budget",
    [
        chita.NofM(2, 4),
        chita.Blocks(4, 1, sparsity=0.5),
        chita.PerOutput(0.5),
        chita.PerLayer(0.5, distribution="erk"),
        chita.Quotas({"*": 0.5, "*attn*": 0.75}),
    ],
    ids=lambda budget: type(budget).__name__,
)
def test_every_budget_with_shares_is_met(budget):
    model, batch = FAMILIES["gpt2"].build(), FAMILIES["gpt2"].data()
    found = chita.prune(model, batch, solver="alps", ignore="lm_head", budget=budget, **PLAIN)
    for layer in found.layers:
        mask = found.masks[layer.name].T  # outputs first
        if isinstance(budget, chita.NofM):
            assert bool((mask.reshape(-1, 4).sum(1) == 2).all())
        if isinstance(budget, chita.Blocks):
            assert bool((mask.unflatten(0, (-1, 4)).sum(1) % 4 == 0).all())
        if isinstance(budget, chita.PerOutput):
            assert bool((mask.sum(1) == mask.shape[1] // 2).all())
        if isinstance(budget, chita.Quotas):
            assert layer.kept == layer.weights // (4 if "attn" in layer.name else 2)
    if isinstance(budget, chita.Blocks | chita.PerLayer):
        assert found.record.nnz == found.record.prunable // 2


def test_memory_is_bounded_to_the_same_bits():
    model, batch = FAMILIES["llama"].build(), FAMILIES["llama"].data()
    options = {"sparsity": 0.5, "solver": "sparsegpt", **PLAIN}
    held = chita.prune(model, batch, **options)
    spilled = chita.prune(model, batch, memory=chita.Memory(max_memory=0), **options)
    for name, mask in held.masks.items():
        assert torch.equal(mask, spilled.masks[name])
        ours, theirs = (r.model.get_parameter(name) for r in (held, spilled))
        assert torch.equal(ours, theirs)


class Stop(Exception):
    """The power is cut."""


@pytest.mark.parametrize("at", [0, 3, 7])
def test_a_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, at):
    model, batch = FAMILIES["gpt2"].build(), FAMILIES["gpt2"].data()
    options = {"sparsity": 0.5, "solver": "alps", "ignore": "lm_head", **PLAIN}
    whole = chita.prune(model, batch, **options)
    solves = []
    solve = ALPS.solve

    def failing(self, *args, **kwargs):
        if len(solves) == at:
            raise Stop
        solves.append(None)
        return solve(self, *args, **kwargs)

    file = tmp_path / "unfinished"
    with monkeypatch.context() as patch:
        patch.setattr(ALPS, "solve", failing)
        with pytest.raises(Stop):
            chita.prune(model, batch, checkpoint=file, **options)
    assert file.exists() == (at >= 4)  # four layers make a block
    counted = []
    monkeypatch.setattr(ALPS, "solve", lambda s, *a, **k: counted.append(0) or solve(s, *a, **k))
    if at >= 4:  # the order of blocks is in the file
        monkeypatch.setattr("chita.pruning.layerwise.find_order", None)
    again = chita.prune(model, batch, checkpoint=chita.Checkpoint(file, resume=True), **options)
    assert len(counted) == (4 if at >= 4 else 8)
    assert not file.exists()
    for name, mask in whole.masks.items():
        assert torch.equal(mask, again.masks[name])
        assert torch.equal(whole.model.get_parameter(name), again.model.get_parameter(name))
    ours, theirs = ([layer.solved.error for layer in r.layers] for r in (whole, again))
    assert ours == theirs


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"solver": "alps", "layerwise": False}, "ALPS only prunes layer by layer"),
        ({"solver": "woodfisher", "layerwise": True}, "WoodFisher prunes by gradients"),
        ({"solver": "alps", "stages": 3}, "takes no `stages`. Leave"),
        ({"solver": "alps", "fisher": chita.Fisher(history=1)}, "takes no `history`"),
        (
            {"solver": ALPS(bound=True), "quadratic": chita.Quadratic(first_order=1.0)},
            "no `first_order` and no `bound`",
        ),
        ({"solver": "alps", "budget": chita.Flops(0.5)}, "Flops has none"),
    ],
)
def test_what_cannot_be_asked_is_refused(options, words):
    model = chita.load_model("digits-mlp")
    with pytest.raises(InputError, match=words):
        chita.prune(model, digits()[0], **{"budget": chita.Sparsity(0.5), **options})


def test_no_room_below_nothing_is_taken():
    with pytest.raises(InputError, match="`max_memory` is -1; give a number of at least 0"):
        chita.Memory(max_memory=-1)


def test_weights_of_other_layers_are_refused_by_name():
    model = nn.Sequential(nn.ConvTranspose2d(1, 2, 3), nn.Flatten(), nn.Linear(200, 3))
    data = (torch.randn(5, 1, 8, 8), torch.zeros(5).long())
    with pytest.raises(InputError, match=r"0.weight \(ConvTranspose2d\).*`ignore`"):
        chita.prune(model, data, sparsity=0.5, solver="alps")
    found = chita.prune(model, data, sparsity=0.5, solver="alps", ignore="0")
    assert [layer.name for layer in found.layers] == ["2.weight"]


def test_owl_keeps_more_where_outliers_are():
    model = FAMILIES["gpt2"].build()
    batch = FAMILIES["gpt2"].data()
    with torch.no_grad():  # a block in which few weights do most of the work
        for layer in model.transformer.h[1].modules():
            if hasattr(layer, "nf"):
                layer.weight[0, :2] *= 40
    options = {"budget": chita.ByOutliers(0.7), "solver": "alps", "ignore": "lm_head", **PLAIN}
    found = chita.prune(model, batch, **options)
    first, second = (
        sum(layer.kept for layer in found.layers if f"h.{i}." in layer.name) for i in (0, 1)
    )
    whole = sum(layer.weights for layer in found.layers) // 2
    assert found.record.nnz == first + second == int(0.3 * 2 * whole)
    assert first == pytest.approx((0.3 - 0.08) * whole, abs=8)
    assert second == pytest.approx((0.3 + 0.08) * whole, abs=8)
    layers = {
        layer.name: layer for layer in layers_of(model, prunable_layout(model, None, "lm_head"))
    }
    blocks = network_blocks(model, list(layers))
    shares = outlier_shares(layers, blocks, lambda b: model(**b), [batch])
    seen = inputs_of(model, {name: layer.modules[0] for name, layer in layers.items()}, batch)
    for block in blocks:
        scores = torch.cat([
            (layers[n].modules[0].weight.T.abs() * seen[n].square().mean(0).sqrt()).flatten()
            for n in block.tensors
        ])
        expected = float((scores > 5 * scores.mean()).double().mean())
        assert all(shares[n] == pytest.approx(expected, abs=1e-3) for n in block.tensors)


def test_owl_needs_layers_to_measure():
    model = chita.load_model("digits-mlp")
    with pytest.raises(InputError, match="are measured while pruning layer by layer"):
        chita.prune(model, digits()[0], budget=chita.ByOutliers(0.5), solver="magnitude")


@pytest.mark.parametrize("spread", [-0.01, 0.51, float("nan")])
def test_owl_spreads_within_bounds(spread):
    with pytest.raises(InputError, match=r"give a number from 0 to 0\.5"):
        ByOutliers(0.5, spread=spread)


LEFT = torch.arange(8) < 4


class Pair(nn.Module):
    """Two layers of one weight, whose inputs lie in different places."""

    def __init__(self):
        super().__init__()
        self.a, self.b = (nn.Linear(8, 8, bias=False) for _ in range(2))
        self.b.weight = self.a.weight

    def forward(self, x):
        return torch.tanh(self.a(x * LEFT) + self.b(x * ~LEFT))


def test_a_weight_of_several_layers_is_judged_by_the_inputs_of_all():
    pair, x = Pair(), torch.randn(64, 8)
    data = (x, torch.zeros(64).long())
    options = {"solver": "wanda", "budget": chita.PerOutput(0.5)}
    with pytest.raises(InputError, match=r"is also the weight of 0\.b, which runs elsewhere"):
        chita.prune(nn.Sequential(pair), data, **options)
    model = Blocks(pair)
    result = chita.prune(model, data, **options)
    assert result.layers[0].solved.inputs == 2 * 64
    both = torch.cat([x * LEFT, x * ~LEFT])
    scores = pair.a.weight.detach().abs() * both.square().mean(0).sqrt()
    for row, mask in zip(scores, result.masks["blocks.0.a.weight"], strict=True):
        assert set(row.topk(4).indices.tolist()) == set(mask.nonzero().flatten().tolist())


class Blocks(nn.Module):
    """A list of one block."""

    def __init__(self, block):
        super().__init__()
        self.blocks = nn.ModuleList([block])

    def forward(self, x):
        return self.blocks[0](x)


def test_where_no_layer_can_be_pruned_it_is_an_error():
    class Cosine(nn.Linear):
        def forward(self, x):
            return super().forward(x) / x.norm()

    model = nn.Sequential(Cosine(6, 6), nn.Tanh())
    data = (torch.randn(30, 6), torch.zeros(30).long())
    with pytest.raises(InputError, match=r"No layer can be pruned.*0\.weight computes something"):
        chita.prune(model, data, solver="wanda", sparsity=0.5)
