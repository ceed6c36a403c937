"""Row gradients against one plain backward per row."""

import pytest
import torch
from torch import nn

from chita.collect import gradients
from chita.collect.backends import BACKENDS
from chita.collect.gradients import collect_gradients
from chita.collect.separate import LossModule, by_vmap
from chita.data.digits import digits
from chita.data.examples import Examples
from chita.errors import InputError, NumericalError
from chita.losses import LOSSES, CustomLoss
from chita.models.prunable import prunable_layout
from chita.models.zoo import load_model
from tests.collect.rows import every_backend, rows_of
from tests.networks import LanguageModel


class Branching(nn.Module):
    """Looks at its values, which vmap does not allow."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        y = self.fc(x)
        return 2 * y if float(y.detach().sum()) > 0 else y


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.out(torch.relu(self.b(torch.relu(self.a(x)))))


class Shared(nn.Module):
    """A layer's weight that is first a parameter of the network, and used under both names."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Parameter(torch.randn(3, 4))
        self.fc = nn.Linear(4, 3)
        self.fc.weight = self.shared

    def forward(self, x):
        return self.fc(x) + nn.functional.linear(x.square(), self.shared)


def by_backward(model, layout, examples, samples_per_gradient):
    """One ordinary backward per row through the network as it is."""
    rows = []
    for x, y in examples.batches(samples_per_gradient):
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        named = model.named_parameters(remove_duplicate=False)
        rows.append(layout.flatten({name: p.grad for name, p in named}))
    return torch.stack(rows)


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.ConvTranspose2d(4, 3, 2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(48, 3),
    ).eval()


def samples(shape, count=6, classes=3):
    return Examples((torch.randn(count, *shape).double(), torch.randint(classes, (count,))))


CASES = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), (4,)),
    "convolutions": (convolutional, (2, 7, 7)),
    "tied": (Tied, (4,)),
    "shared": (Shared, (4,)),
    "branching": (Branching, (4,)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("samples_per_gradient", [1, 3])
@every_backend
def test_rows_are_gradients_of_mean_losses(case, samples_per_gradient, fastest):
    make, shape = CASES[case]
    model, examples = make().double(), samples(shape)
    layout = prunable_layout(model)
    expected = by_backward(model, layout, examples, samples_per_gradient)
    rows = rows_of(
        model, layout, examples, samples_per_gradient=samples_per_gradient, fastest=fastest
    )
    assert (rows.n, rows.p) == (6 // samples_per_gradient, layout.size)
    assert torch.allclose(rows.gather(torch.arange(layout.size)).T, expected, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
@every_backend
def test_the_fastest_way_that_is_allowed_and_possible_is_taken(name, fastest):
    make, shape = CASES[name]
    model = make().double()
    layout = prunable_layout(model)
    found = collect_gradients(model, layout, samples(shape), fastest=fastest).backends
    # These layers are small, and there is room for their rows.
    taken = "rule" if fastest in ("factored", "positioned") else fastest
    if name == "branching":
        taken = "loop"
    if name == "shared":  # its first place is no layer
        taken = "loop" if fastest == "loop" else "vmap"
    assert found == dict.fromkeys(layout.names, taken)


@every_backend
def test_both_uses_of_a_tied_embedding_count(fastest):
    model = LanguageModel().double()
    layout = prunable_layout(model, targets=["embed"])
    examples = Examples((torch.randint(5, (6, 3)), torch.randint(5, (6,))))
    expected = by_backward(model, layout, examples, 2)
    rows = rows_of(model, layout, examples, samples_per_gradient=2, fastest=fastest)
    assert torch.allclose(rows.gather(torch.arange(layout.size)).T, expected, atol=1e-12)


def test_a_network_that_decides_by_its_batch_later_is_run_row_by_row():
    """Its first rows decide alike, alone or together; later ones do not."""
    model = Branching().double()
    with torch.no_grad():
        model.fc.weight.fill_(1.0)
        model.fc.bias.copy_(torch.tensor([0.1, 0.0, -0.1]))
    signs = torch.tensor([1.0, 1, 1, 1, -1, 1, -1, -1]).double().unsqueeze(1)
    examples = Examples((signs * torch.rand(8, 4).double(), torch.randint(3, (8,))))
    layout = prunable_layout(model)
    found = collect_gradients(model, layout, examples)
    assert found.backends == {"fc.weight": "loop"}
    index = torch.arange(layout.size)
    expected = by_backward(model, layout, examples, 1)
    assert torch.allclose(found.rows.gather(index).T, expected, atol=1e-12)


def test_half_types_give_float32_rows():
    model = nn.Linear(4, 3).bfloat16()
    examples = Examples((torch.randn(6, 4).bfloat16(), torch.randint(3, (6,))))
    assert rows_of(model, prunable_layout(model), examples).dtype == torch.float32


@pytest.mark.parametrize(
    ("targets", "outputs"),
    [(torch.zeros(2), 3), (torch.zeros(2, 1).long(), 3), (torch.zeros(2, 4).long(), 3)],
)
def test_targets_that_do_not_fit_the_loss_are_refused(targets, outputs):
    model = nn.Linear(4, outputs).double()
    assert "The loss cross_entropy fails on outputs (1, 3)" in refusal(
        model, Examples((torch.randn(2, 4).double(), targets))
    )


def test_a_forward_that_writes_into_its_inputs_is_no_chance():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)).double()
    examples = samples((4,))
    before = examples.batch[0].clone()
    layout = prunable_layout(model)
    out_of_place = nn.Sequential(nn.ReLU(), model[1])
    expected = by_backward(out_of_place, layout, examples, 1)
    rows = rows_of(model, layout, examples)
    assert torch.allclose(rows.gather(torch.arange(layout.size)).T, expected)
    assert torch.equal(examples.batch[0], before)


@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn"])
def test_shipped_networks_in_float32_and_over_several_chunks(name):
    model = load_model(name)
    layout = prunable_layout(model)
    examples = digits()[0].take(torch.arange(100))
    expected = by_backward(model, layout, examples, 1)
    model.zero_grad(set_to_none=True)
    rows = rows_of(model, layout, examples)
    found = rows.gather(torch.arange(layout.size)).T
    assert (found - expected).norm() <= 1e-5 * expected.norm()


def test_the_model_is_left_as_it_was():
    model = convolutional().double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rows_of(model, prunable_layout(model), samples((2, 7, 7)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def refusal(model, examples, error=InputError):
    with pytest.raises(error) as caught:
        rows_of(model, prunable_layout(model), examples)
    return str(caught.value)


def test_batch_statistics_are_refused_by_name():
    model = convolutional().double()
    model[1].train()
    assert "1 (BatchNorm2d) is in train mode" in refusal(model, samples((2, 7, 7)))
    model[1] = nn.BatchNorm2d(4, track_running_stats=False).eval()
    assert "1 (BatchNorm2d) has no running statistics" in refusal(model, samples((2, 7, 7)))


def test_active_dropout_is_refused_by_name():
    model = convolutional().double()
    model[5].train()
    assert "5 (Dropout) is in train mode" in refusal(model, samples((2, 7, 7)))
    model[5].p = 0.0
    assert rows_of(model, prunable_layout(model), samples((2, 7, 7))).n == 6


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (nn.MultiheadAttention(4, 2, dropout=0.1), "MultiheadAttention"),
        (nn.LSTM(4, 4, 2, dropout=0.1), "LSTM"),
    ],
)
def test_dropout_inside_other_layers_is_refused_by_name(layer, name):
    model = nn.ModuleDict({"inner": layer, "fc": nn.Linear(4, 3)}).double()
    assert f"inner ({name}) is in train mode and drops" in refusal(model, samples((4,)))


def test_a_gradient_that_is_not_finite_names_the_tensor():
    class Root(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3, bias=False)

        def forward(self, x):
            return self.fc(x).abs().sqrt()

    model = Root().double()
    with torch.no_grad():
        model.fc.weight.zero_()
    assert "gradient of fc.weight is not finite" in refusal(model, samples((4,)), NumericalError)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_looked_at_only_at_the_end_is_named_too(what):
    """As on an accelerator, where the loop over batches does not wait for values."""
    model = nn.Linear(4, 3).double()
    examples = samples((4,))
    if what == "loss":
        with torch.no_grad():
            model.bias[0] = float("inf")
    watch = gradients._GradientCheck(model, LOSSES["cross_entropy"], prunable_layout(model))
    watch._waits = False
    for batch in examples.batches(2):
        losses = torch.tensor([1.0, float("nan") if what == "loss" else 1.0])
        watch.saw("weight", torch.tensor([[float("nan"), 1.0]]))
        watch.batch_done(losses, batch)
    expected = "The loss of 3 rows" if what == "loss" else "gradient of weight is not finite"
    with pytest.raises(NumericalError, match=expected):
        watch.check_all(examples.batches(2))


def test_outputs_without_classes_are_refused():
    model = nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)).double()
    assert "needs outputs (batch, classes, ...)" in refusal(model, samples((4,)))


def test_dropout_that_ignores_eval_mode_is_found():
    class Always(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(50, 3)

        def forward(self, x):
            return self.fc(nn.functional.dropout(x, 0.5, training=True))

    assert "two outputs for the same inputs" in refusal(Always().double(), samples((50,)))


def test_a_loss_that_is_not_finite_names_the_module():
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 3)).double()
    with torch.no_grad():
        model[1].bias[0] = float("inf")
    assert "comes from 1 (Linear)" in refusal(model, samples((4,)), NumericalError)


def test_a_forward_that_fails_names_the_module():
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(6, 3)).double()
    message = refusal(model, samples((4,)))
    assert "fails in 1 (Linear)" in message
    assert "(1, 4)" in message


def test_targets_out_of_range_are_refused():
    model = nn.Linear(4, 3).double()
    assert "from 0 to 3" in refusal(
        model, Examples((torch.randn(2, 4).double(), torch.tensor([0, 3])))
    )
    assert "from -1 to 2" in refusal(
        model, Examples((torch.randn(2, 4).double(), torch.tensor([-1, 2])))
    )


def test_rows_must_be_whole():
    model = nn.Linear(4, 3).double()
    with pytest.raises(InputError, match="whole gradients of 4"):
        rows_of(model, prunable_layout(model), samples((4,)), samples_per_gradient=4)


class Sparse(nn.Module):
    """An embedding whose gradient is a sparse tensor."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4, sparse=True)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.embed(x).sum(1))


def test_a_sparse_gradient_is_that_of_the_dense_embedding():
    model = Sparse().double()
    layout = prunable_layout(model, targets=["embed", "head"])
    examples = Examples((torch.randint(5, (6, 3)), torch.randint(3, (6,))))
    rows = rows_of(model, layout, examples, fastest="loop")
    model.embed.sparse = False
    expected = by_backward(model, layout, examples, 1)
    assert torch.allclose(rows.gather(torch.arange(layout.size)).T, expected, atol=1e-12)


@every_backend
def test_frozen_weights_have_gradients_too_and_stay_frozen(fastest):
    model, examples = CASES["mlp"][0]().double(), samples((4,))
    layout = prunable_layout(model)
    expected = by_backward(model, layout, examples, 1)
    model.requires_grad_(False)
    with torch.no_grad():
        rows = rows_of(model, layout, examples, fastest=fastest)
    assert torch.allclose(rows.gather(torch.arange(layout.size)).T, expected, atol=1e-12)
    assert not any(p.requires_grad for p in model.parameters())


def test_weights_of_mixed_types_give_rows_of_the_wider():
    model = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 3))
    model[1].double()
    model.forward = lambda x: model[1](model[0](x).double())
    examples = Examples((torch.randn(6, 4), torch.randint(3, (6,))))
    assert rows_of(model, prunable_layout(model), examples).dtype == torch.float64


def test_a_forward_without_gradients_is_refused():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            with torch.no_grad():
                return self.fc(x)

    for fastest in BACKENDS:
        model = Detached().double()
        with pytest.raises(InputError, match="All gradients are zero"):
            rows_of(model, prunable_layout(model), samples((4,)), fastest=fastest)


def test_rows_without_room_are_refused_before_any_work(monkeypatch):
    model, examples = CASES["mlp"][0]().double(), samples((4,))
    monkeypatch.setattr(gradients, "available_memory", lambda: 100)
    layout, alps = prunable_layout(model), "Pruning layer by layer .* alps.* Or lower `samples`"
    with pytest.raises(InputError, match=f"6 rows of 35 weights need .* {alps}"):
        rows_of(model, layout, examples)
    monkeypatch.setattr("chita.collect.inputs.sees", lambda module, name: False)
    with pytest.raises(InputError, match=r"free\)\. Lower `samples`"):
        rows_of(model, layout, examples)


def test_rows_keep_no_graph_of_parameters_of_the_loss():
    model, head = nn.Linear(4, 3), nn.Linear(3, 3)

    def with_head(model, batch):
        return nn.functional.cross_entropy(head(model(batch[0])), batch[1])

    batch, weights = (torch.randn(5, 4), torch.arange(5) % 3), {"weight": model.weight}
    rows, losses = by_vmap(LossModule(model, CustomLoss(with_head)), weights, 1, batch)
    assert not losses.requires_grad
    assert not rows["weight"].requires_grad
