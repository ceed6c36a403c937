"""Rows over the length of the gradient of their loss by the outputs, by every backend."""

import pytest
import torch
from torch import nn

from chita.collect.gradients import collect_gradients
from chita.data.examples import Examples
from chita.losses import LOSSES
from chita.models.prunable import prunable_layout


class Looking(nn.Module):
    """No rule and no vmap: it looks at a value."""

    def __init__(self):
        super().__init__()
        self.own = nn.Parameter(torch.randn(3, 4))
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        y = self.layer(x)
        return y + x @ self.own.T if bool(x.sum() > 1e9) else y - x @ self.own.T


def case(kind):
    torch.manual_seed(3)
    if kind == "linear":
        return nn.Sequential(nn.Linear(4, 30), nn.Tanh(), nn.Linear(30, 3)), torch.randn(6, 4)
    if kind == "convolution":
        layers = nn.Conv2d(1, 2, 3), nn.Flatten(), nn.PReLU(), nn.Linear(18, 3)
        return nn.Sequential(*layers), torch.randn(6, 1, 5, 5)
    return Looking(), torch.randn(6, 4)


@pytest.mark.parametrize("samples_per_gradient", [1, 2])
@pytest.mark.parametrize("fastest", ["factored", "rule", "vmap", "loop"])
@pytest.mark.parametrize("kind", ["linear", "convolution", "looking"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_rows_are_gradients_over_the_error_at_the_outputs(
    samples_per_gradient, fastest, kind, loss
):
    model, x = case(kind)
    model, x = model.double(), x.double()
    y = torch.randint(3, (6,)) if loss == "cross_entropy" else torch.randn(6, 3).double()
    layout = prunable_layout(model)
    found = collect_gradients(
        model,
        layout,
        Examples((x, y)),
        samples_per_gradient=samples_per_gradient,
        loss=LOSSES[loss],
        fastest=fastest,
        improved=True,
    )
    weights = [model.get_parameter(name) for name in layout.names]
    given = found.rows.gather(torch.arange(layout.size))
    for i, (xs, ys) in enumerate(
        zip(x.split(samples_per_gradient), y.split(samples_per_gradient), strict=True)
    ):
        outputs = model(xs)
        value = getattr(nn.functional, f"{loss}_loss" if loss == "mse" else loss)(outputs, ys)
        error, *gradients = torch.autograd.grad(value, [outputs, *weights])
        flat = torch.cat([g.flatten() for g in gradients])
        torch.testing.assert_close(found.output_norms[i], error.norm())
        torch.testing.assert_close(given[:, i], flat / error.norm())


def test_the_gradient_of_the_mean_loss_is_kept():
    model, x = case("linear")
    layout, examples = prunable_layout(model), Examples((x, torch.randint(3, (6,))))
    plain = collect_gradients(model, layout, examples)
    better = collect_gradients(model, layout, examples, improved=True)
    assert torch.equal(plain.output_norms, torch.ones(6).double())
    torch.testing.assert_close(
        better.rows.transpose_times(better.output_norms),
        plain.rows.transpose_times(plain.output_norms),
    )


def test_samples_on_which_the_network_is_wholly_right_have_no_row():
    model, x = case("linear")
    with torch.no_grad():
        model[2].bias.copy_(torch.tensor([1e4, 0.0, 0.0]))
    examples = Examples((x, torch.tensor([0, 1, 0, 1, 0, 0])))
    found = collect_gradients(model, prunable_layout(model), examples, improved=True)
    given = found.rows.gather(torch.arange(found.rows.p))
    assert not given[:, [0, 2, 4, 5]].any()
    assert bool(torch.isfinite(given).all())
    assert given[:, [1, 3]].any(0).all()
