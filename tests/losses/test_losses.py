import functools
import statistics
from collections import UserDict
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from chita.errors import InputError
from chita.losses import LOSSES, check_loss, make_loss
from chita.losses.outputs import CrossEntropy, MeanSquaredError, NegativeLogLikelihood
from chita.losses.whole import CustomLoss, OwnLoss

LIKELIHOODS = [CrossEntropy(), NegativeLogLikelihood(), MeanSquaredError()]
SHAPES = [(6, 4), (3, 4, 5), (2, 4, 3, 5)]


class Fixed(nn.Module):
    """A network that returns what it was made with, whatever comes in."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = outputs

    def forward(self, x=None, **named):
        return self.outputs


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def classes(shape):
    """Logits (b, 4, ...) and classes (b, ...)."""
    return torch.randn(shape), torch.randint(4, (shape[0], *shape[2:]))


def by_hand(log_probabilities, targets):
    """Minus the entry at the target, over all positions that count."""
    rows = log_probabilities.movedim(1, -1).reshape(-1, log_probabilities.shape[1]).tolist()
    pairs = zip(rows, targets.reshape(-1).tolist(), strict=True)
    return statistics.fmean(-row[target] for row, target in pairs if target != -100)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ignored", [False, True])
def test_cross_entropy_and_nll_against_their_definition(shape, ignored):
    logits, targets = classes(shape)
    if ignored:
        targets.view(-1)[::2] = -100
    logs = logits - logits.exp().sum(1, keepdim=True).log()
    truth = by_hand(logs, targets)
    batch = (torch.zeros(shape[0]), targets)
    for loss, outputs in ((LOSSES["cross_entropy"], logits), (LOSSES["nll"], logs)):
        loss.check(Fixed(outputs), batch, batch)
        assert float(loss.mean(Fixed(outputs), batch)) == pytest.approx(truth, rel=1e-5)
        own = nn.CrossEntropyLoss() if loss.name == "cross_entropy" else nn.NLLLoss()
        torch.testing.assert_close(loss.compare(outputs, targets)[0], own(outputs, targets))


@pytest.mark.parametrize("shape", [(6, 4), (4, 4, 5), (2, 4, 3, 5)])
@pytest.mark.parametrize("loss", LIKELIHOODS, ids=lambda loss: loss.name)
@pytest.mark.parametrize("kind", ["classes", "ignored", "probabilities"])
def test_losses_of_rows_are_the_mean_losses_of_their_samples(shape, loss, kind):
    outputs, targets = classes(shape)
    if kind == "ignored" and len(shape) > 2:
        targets[:, 0] = -100
        targets[0, 1] = -100
    if kind == "probabilities":
        targets = torch.rand(shape).softmax(1)
    if loss.name == "nll" and kind == "probabilities":
        pytest.skip("torch's nll takes classes alone")
    if loss.name == "mse":
        targets = torch.randn(shape)
    own = {"cross_entropy": nn.CrossEntropyLoss(), "nll": nn.NLLLoss(), "mse": nn.MSELoss()}
    for size in (1, 2):
        pieces = zip(outputs.split(size), targets.split(size), strict=True)
        expected = torch.stack([own[loss.name](*piece) for piece in pieces])
        torch.testing.assert_close(loss.compare(outputs, targets, size), expected)


def test_cross_entropy_of_class_probabilities():
    logits, _ = classes((6, 4))
    targets = torch.rand(6, 4).softmax(1)
    truth = -(targets * logits.log_softmax(1)).sum(1).mean()
    batch = (torch.zeros(6), targets)
    CrossEntropy().check(Fixed(logits), batch, batch)
    assert float(CrossEntropy().mean(Fixed(logits), batch)) == pytest.approx(float(truth))
    right = int((logits.argmax(1) == targets.argmax(1)).sum())
    assert CrossEntropy().measure(Fixed(logits), batch).total == 100 * right


@pytest.mark.parametrize("shape", [(7,), (7, 1), (7, 3), (2, 3, 4, 5)])
@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.int64])
def test_mse_against_its_definition(shape, kind):
    outputs = torch.randn(shape, requires_grad=True)
    targets = (3 * torch.randn(shape)).to(kind)
    batch = (torch.zeros(shape[0]), targets)
    pairs = zip(outputs.view(-1).tolist(), targets.view(-1).tolist(), strict=True)
    squares = [(a - b) ** 2 for a, b in pairs]
    loss = LOSSES["mse"]
    loss.check(Fixed(outputs), batch, batch)
    mean = loss.mean(Fixed(outputs), batch)
    assert mean.item() == pytest.approx(sum(squares) / len(squares))
    mean.backward()  # for any type of targets
    assert torch.allclose(outputs.grad, (2 * (outputs - targets) / len(squares)).float())
    measure = loss.measure(Fixed(outputs.detach()), batch)
    assert (measure.name, measure.count) == ("mean squared error", len(squares))
    assert measure.total == pytest.approx(sum(squares))


@pytest.mark.parametrize("loss", LIKELIHOODS[:2], ids=lambda loss: loss.name)
@pytest.mark.parametrize("shape", SHAPES)
def test_accuracy_by_counting(loss, shape):
    name = {2: "top-1", 3: "per-position", 4: "pixel"}[len(shape)]
    logits, targets = classes(shape)
    targets.view(-1)[::3] = -100
    rows = logits.movedim(1, -1).reshape(-1, 4).tolist()
    labels = targets.reshape(-1).tolist()
    right = sum(row.index(max(row)) == y for row, y in zip(rows, labels, strict=True))
    measure = loss.measure(Fixed(logits), (torch.zeros(shape[0]), targets))
    assert measure.name == f"{name} accuracy, per cent"
    assert (measure.total, measure.count) == (100 * right, sum(y != -100 for y in labels))


def test_measures_broadcast_nothing():
    with pytest.raises(InputError, match=r"got \(6, 4\) for targets \(6, 1\)"):
        CrossEntropy().measure(Fixed(torch.zeros(6, 4)), (0, torch.zeros(6, 1).long()))
    with pytest.raises(InputError, match=r"mse needs targets shaped as the outputs"):
        MeanSquaredError().measure(Fixed(torch.zeros(6, 1)), (0, torch.zeros(6)))


@pytest.mark.parametrize("wrong", [-1, 4, 99, -99])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_labels_out_of_range_are_refused(name, shape, wrong):
    logits, targets = classes(shape)
    model, ignored = Fixed(logits.log_softmax(1)), (torch.zeros(shape[0]), 0 * targets - 100)
    good, bad = (torch.zeros(shape[0]), targets), (torch.zeros(shape[0]), targets.clone())
    bad[1].view(-1)[-1] = wrong
    LOSSES[name].check(model, good, ignored)
    assert LOSSES[name].measure(model, ignored).count == 0
    with pytest.raises(
        InputError, match=r"network has 4 classes: they must lie in 0 to 3, or be -100"
    ):
        LOSSES[name].check(model, good, bad)


def test_nll_of_logits_or_probabilities_is_refused():
    logits, targets = classes((6, 4))
    batch = (torch.zeros(6), targets)
    for outputs in (logits, 0.1 * logits, logits.softmax(1)):
        with pytest.raises(InputError, match=r"nll needs log-prob.*Use the loss cross_entropy"):
            LOSSES["nll"].check(Fixed(outputs), batch, batch)
        with pytest.raises(InputError, match=r"nll needs log-probabilities"):
            LOSSES["nll"].relabelled(Fixed(outputs), batch, seeded())


MSE = r"mse needs targets shaped as the outputs; got outputs"


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "told"),
    [
        ("mse", (6, 1), torch.zeros(6), MSE),
        ("mse", (6,), torch.zeros(6, 1), MSE),
        ("mse", (6, 3), torch.zeros(6, 1), MSE),
        ("mse", (6, 3), torch.zeros(6, 3, 1), MSE),
        ("mse", (6, 1, 2), torch.zeros(6, 2), MSE),
        ("cross_entropy", (6,), torch.zeros(6).long(), r"\(batch, classes, ...\); got \(6,\)"),
        ("cross_entropy", (6, 4), torch.zeros(6).int(), r"fails on outputs \(6, 4\) float32 and"),
        ("cross_entropy", (6, 4), torch.zeros(6, 1).long(), "Give targets that fit"),
        ("cross_entropy", (6, 4), torch.zeros(6, 3), "Give targets that fit"),
        ("cross_entropy", (6, 4), torch.zeros(5).long(), "no single number of samples"),
        ("cross_entropy", (6, 4), torch.tensor(1), "no single number of samples"),
    ],
)
def test_targets_that_do_not_fit(name, outputs, targets, told):
    batch = (torch.zeros(6), targets)
    with pytest.raises(InputError, match=told):
        LOSSES[name].check(Fixed(torch.zeros(outputs)), batch, batch)


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_classes_that_are_no_whole_numbers_are_told_of_wherever_they_are_met(name):
    logits = torch.randn(6, 4).log_softmax(1)
    for targets in (torch.zeros(6), torch.zeros(6).double(), torch.zeros(6, 3)):
        batch = (torch.zeros(6), targets)
        for use in (LOSSES[name].measure, lambda *a: LOSSES[name].check(*a, a[1])):
            with pytest.raises(InputError, match=r"targets \(6.* float.*targets\.long\(\)"):
                use(Fixed(logits), batch)
    shares = torch.eye(4)[[0, 1, 2, 3, 0, 1]]
    assert LOSSES[name].measure(Fixed(shares), (torch.zeros(6), shares)).total == 600


def test_what_torch_says_of_targets_is_a_sentence():
    batch = (torch.zeros(6), torch.zeros(6).int())
    with pytest.raises(InputError, match=r"got Int\. Give targets that fit\.$"):
        LOSSES["cross_entropy"].check(Fixed(torch.zeros(6, 4)), batch, batch)


X = torch.zeros(3)
NO_TARGETS = [X, (X,), (X, None), (X, [0, 1, 2])]
NO_PAIRS = [(X, X, X), {"x": X}, SimpleNamespace(x=3)]


@pytest.mark.parametrize("loss", LIKELIHOODS, ids=lambda loss: loss.name)
@pytest.mark.parametrize(
    ("batches", "told"),
    [(NO_TARGETS, "without a tensor of targets"), (NO_PAIRS, r"loss=callable\(model, batch\)")],
)
def test_batches_that_are_no_pairs(loss, batches, told):
    for batch in batches:
        for use in (loss.mean, loss.measure):
            with pytest.raises(InputError, match=told):
                use(Fixed(torch.zeros(3, 4)), batch)


KINDS = [dict, UserDict, SimpleNamespace]  # of outputs, as networks return them


@pytest.mark.parametrize("kind", KINDS)
def test_the_networks_own_loss(kind):
    weight = torch.tensor(3.0, requires_grad=True)
    batch = {"x": torch.zeros(5, 2), "labels": torch.zeros(5)}
    model = Fixed(kind(loss=weight * 2, logits=None))
    assert torch.autograd.grad(OwnLoss().mean(model, batch), weight)[0] == 2
    with torch.no_grad():
        measure = OwnLoss().measure(model, batch)
    assert (measure.name, measure.total, measure.count) == ("mean loss (model), by samples", 30, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_accuracy_of_a_classifier_with_its_own_loss(kind):
    logits, labels = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]]), torch.tensor([0, 1, 1, -100])
    model = Fixed(kind(loss=torch.tensor(0.5), logits=logits))
    measure = OwnLoss().measure(model, {"x": torch.zeros(4), "labels": labels})
    assert measure == CrossEntropy().measure(Fixed(logits), (torch.zeros(4), labels))
    assert measure.total == 200
    for other in (labels.float(), labels.unsqueeze(1), None):  # values, several, none
        batch = {"x": torch.zeros(4), "labels": other}
        assert OwnLoss().measure(model, batch).name == "mean loss (model), by samples"
    model = Fixed(kind(loss=torch.tensor(0.5), logits=logits[:, :1]))  # one value is no class
    assert OwnLoss().measure(model, {"labels": labels}).total == 2


def test_the_batch_is_given_by_name():
    class Named(nn.Module):
        def forward(self, *, x, labels):
            return {"loss": (x.sum(1) - labels).square().mean()}

    x, labels = torch.randn(5, 2), torch.randn(5)
    for kind in (dict, UserDict):
        found = OwnLoss().mean(Named(), kind(x=x, labels=labels))
        assert torch.equal(found, nn.functional.mse_loss(x.sum(1), labels))


@pytest.mark.parametrize(
    "outputs", [{"logits": X}, {"loss": None}, {"loss": 3.0}, SimpleNamespace(loss=None), X, (X,)]
)
def test_a_network_without_a_loss_of_its_own(outputs):
    told = r"Fixed returned no loss for a batch \{x: \(3, 2\) float32\}. Put the labels"
    with pytest.raises(InputError, match=told):
        OwnLoss().mean(Fixed(outputs), {"x": torch.zeros(3, 2)})
    with pytest.raises(InputError, match=r"needs dicts.*such as cross_entropy"):
        OwnLoss().mean(Fixed({"loss": torch.tensor(1.0)}), (X, X))


def absolute(model, batch):
    return (model(batch[0]) - batch[1]).abs().mean()


@pytest.mark.parametrize("function", [absolute, functools.partial(absolute)])
def test_a_loss_of_ones_own(function):
    model, batch = nn.Linear(2, 1), (torch.randn(4, 2), torch.randn(4, 1))
    loss = make_loss(function, batch)
    truth = nn.functional.l1_loss(model(batch[0]), batch[1]).detach()
    name = "absolute" if function is absolute else "partial"
    assert loss.name == name
    assert torch.equal(loss.mean(model, batch), truth)
    loss.check(model, batch, batch)
    with torch.no_grad():
        measure = loss.measure(model, batch)
    assert (measure.name, measure.count) == (f"mean loss ({name}), by samples", 4)
    assert measure.total == pytest.approx(4 * float(truth))


def test_a_loss_of_one_entry_is_a_scalar_and_others_are_refused():
    ones = CustomLoss(lambda model, batch: torch.ones(1, 1))
    assert ones.mean(None, None).shape == ()
    assert ones.measure(None, object()).count == 1
    for returned, what in ((torch.ones(3), r"\(3,\) float32"), (1.5, "float"), (None, "NoneType")):
        loss = CustomLoss(lambda model, batch, returned=returned: returned)
        with pytest.raises(InputError, match=rf"<lambda> returned {what}; it must return a scalar"):
            loss.check(None, None, None)


def test_a_loss_by_the_kind_of_batch_or_by_its_name():
    for batch in ((X, X), [X, X]):
        assert make_loss(None, batch).name == "cross_entropy"
    for batch in ({"x": X}, UserDict(x=X)):
        assert make_loss(None, batch).name == "model"
    assert set(LOSSES) == {"cross_entropy", "nll", "mse", "model"}
    for name, loss in LOSSES.items():
        assert loss.name == name
        assert make_loss(name, (X, X)) is make_loss(loss, {"x": X}) is loss


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        ("crossentropy", r"Unknown loss 'crossentropy'\. Did you mean cross_entropy"),
        ("MSE_", "Known: cross_entropy, nll, mse, model"),
        (3, r"`loss` is 3; give a name \(cross_entropy, nll, mse, model\) or a function"),
    ],
)
def test_what_is_no_loss(loss, told):
    for use in (check_loss, lambda loss: make_loss(loss, (X, X))):
        with pytest.raises(InputError, match=told):
            use(loss)
