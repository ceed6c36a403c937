import numpy as np
import pytest
import torch
from torch import nn

from chita.losses import LOSSES
from chita.losses.outputs import CrossEntropy, MeanSquaredError
from tests.losses.test_losses import LIKELIHOODS, Fixed, seeded


def close(frequency, probability, draws):
    """Within five standard deviations."""
    return abs(frequency - probability) < 5 * (probability * (1 - probability) / draws) ** 0.5


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_drawn_classes_have_the_probabilities_of_the_softmax(name):
    draws, logits = 20_000, torch.tensor([[0.0, 1.0, 2.0, -1.0], [3.0, 0.0, 0.0, 0.0]])
    shift = 0 if name == "nll" else 5  # softmax sees no constant
    outputs = logits.log_softmax(1).repeat_interleave(draws, 0) + shift
    drawn = LOSSES[name].relabelled(Fixed(outputs), (torch.zeros(2), None), seeded())[1]
    assert drawn.dtype == torch.int64
    assert drawn.shape == (2 * draws,)
    for row, labels in zip(logits.softmax(1).tolist(), drawn.view(2, draws), strict=True):
        for label, probability in enumerate(row):
            assert close(float((labels == label).double().mean()), probability, draws)


def test_every_position_is_drawn_by_itself():
    """(b, C, H, W): each place by its own probabilities, and no two places together."""
    draws = 20_000
    logits = torch.randn(1, 3, 2, 2)
    probabilities = logits.softmax(1)[0]
    drawn = CrossEntropy().draw(logits.expand(draws, -1, -1, -1), seeded())
    assert drawn.shape == (draws, 2, 2)
    for label, y, x in np.ndindex(3, 2, 2):
        frequency = float((drawn[:, y, x] == label).double().mean())
        assert close(frequency, float(probabilities[label, y, x]), draws)
    together = float(((drawn[:, 0, 0] == 0) & (drawn[:, 1, 1] == 1)).double().mean())
    assert close(together, float(probabilities[0, 0, 0] * probabilities[1, 1, 1]), draws)


def test_drawn_values_are_normal_with_variance_one_half():
    draws = 40_000
    outputs = torch.tensor([2.0, -3.0]).repeat(draws, 1)
    drawn = MeanSquaredError().draw(outputs, seeded())
    noise = (drawn - outputs).double()
    assert drawn.dtype == outputs.dtype
    assert noise.mean(0).abs().max() < 5 * (0.5 / draws) ** 0.5
    assert (noise.square().mean(0) - 0.5).abs().max() < 5 * 0.5 * (2 / draws) ** 0.5
    assert close(float((noise.abs() < 0.5**0.5).double().mean()), 0.6827, 2 * draws)
    assert abs(float((noise[:, 0] * noise[:, 1]).mean())) < 5 * 0.5 / draws**0.5


@pytest.mark.parametrize("loss", LIKELIHOODS, ids=lambda loss: loss.name)
def test_draws_are_by_the_generator_alone(loss):
    outputs = torch.randn(50, 4).log_softmax(1).requires_grad_()
    inputs = torch.randn(50, 2)
    for batch in ((inputs, torch.zeros(50)), (inputs, None), [inputs], inputs):
        given, first = loss.relabelled(Fixed(outputs), batch, seeded(3))
        assert given is inputs
        assert not first.requires_grad
        torch.rand(5)
        assert torch.equal(loss.relabelled(Fixed(outputs), batch, seeded(3))[1], first)
        assert not torch.equal(loss.relabelled(Fixed(outputs), batch, seeded(4))[1], first)
    before = torch.get_rng_state(), inputs.clone()
    network = nn.Sequential(nn.ReLU(inplace=True), nn.LogSoftmax(1))  # it writes into its inputs
    given, _ = loss.relabelled(network, inputs, seeded())
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(given, before[1])


def second_moment(loss, model, x, labels):
    """Mean over inputs and draws (i, d) of aaᵀ, for a the gradient of a sample's loss."""
    weights = list(model.parameters())
    total = torch.zeros(sum(w.numel() for w in weights), dtype=torch.float64).diag()
    for row, drawn in zip(x, labels, strict=True):
        for label in drawn.unique(dim=0):
            share = (drawn == label).reshape(len(drawn), -1).all(1).double().mean()
            value = loss.mean(model, (row.unsqueeze(0), label.unsqueeze(0)))
            a = torch.cat([g.flatten() for g in torch.autograd.grad(value, weights)]).double()
            total += share * torch.outer(a, a)
    return total / len(x)


def drawn_for(loss, model, x, draws):
    labels = loss.relabelled(model, x.repeat_interleave(draws, 0), seeded())[1]
    return labels.view(len(x), draws, *labels.shape[1:])


@pytest.mark.parametrize("name", ["cross_entropy", "nll"])
def test_drawn_labels_give_the_fisher_of_a_linear_softmax_network(name):
    """It is the Hessian, whatever the labels; those of the data do not give it.

    Kunstner et al., 2019, section 2.
    """
    torch.manual_seed(1)
    loss, linear, x = LOSSES[name], nn.Linear(3, 4), torch.randn(5, 3)
    model = nn.Sequential(linear, nn.LogSoftmax(1)) if name == "nll" else linear

    def mean_loss(flat):
        logits = x @ flat[:12].view(4, 3).T + flat[12:]
        return nn.functional.cross_entropy(logits, torch.zeros(5, dtype=torch.int64))

    flat = torch.cat([linear.weight.flatten(), linear.bias]).detach()
    truth = torch.autograd.functional.hessian(mean_loss, flat).double()
    found = second_moment(loss, model, x, drawn_for(loss, model, x, 20_000))
    assert (found - truth).norm() < 0.03 * truth.norm()
    empirical = second_moment(loss, model, x, torch.zeros(5, 1, dtype=torch.int64))
    assert (empirical - truth).norm() > 0.3 * truth.norm()


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.slow
def test_drawn_values_give_the_fisher_of_a_linear_network(outputs):
    """E[aaᵀ] = 2xxᵀ for one output; for d of them a mean over entries leaves 2/d² of it each."""
    torch.manual_seed(1)
    loss, model, x = MeanSquaredError(), nn.Linear(2, outputs, bias=False), torch.randn(2, 2)
    found = second_moment(loss, model, x, drawn_for(loss, model, x, 4_000))
    truth = 2 / outputs**2 * torch.kron(torch.eye(outputs), x.T @ x / len(x)).double()
    assert (found - truth).norm() < 0.1 * truth.norm()
