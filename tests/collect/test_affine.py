import pytest
import torch
from torch import nn

from chita.collect.affine import affine_norms


def norm_of(kind, dtype, affine):
    norm = kind(4, affine=affine).to(dtype)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    if affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm.eval()


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.BatchNorm1d, (5, 4)),
        (nn.BatchNorm1d, (5, 4, 3)),
        (nn.BatchNorm2d, (5, 4, 3, 2)),
        (nn.BatchNorm3d, (2, 4, 3, 2, 2)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("affine", [True, False])
def test_outputs_and_gradients_are_those_of_torch(kind, shape, dtype, affine):
    norm = norm_of(kind, dtype, affine)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    delta = torch.randn(shape, dtype=dtype)
    truth = norm(x)
    (expected,) = torch.autograd.grad(truth, x, delta)
    with affine_norms(nn.Sequential(norm)):
        found = norm(x)
        (gradient,) = torch.autograd.grad(found, x, delta)
    assert torch.equal(found, truth)
    torch.testing.assert_close(gradient, expected)


def test_norms_are_given_back_and_others_are_left_alone():
    class Own(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x) + 1

    model = nn.Sequential(nn.BatchNorm2d(4), Own(4), nn.BatchNorm2d(4, track_running_stats=False))
    model.eval()

    def fail():
        with affine_norms(model):
            assert ["forward" in vars(layer) for layer in model] == [True, False, False]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not any("forward" in vars(layer) for layer in model)


def test_an_input_of_the_wrong_shape_fails_as_in_torch():
    norm = norm_of(nn.BatchNorm2d, torch.float32, True)
    with affine_norms(norm), pytest.raises(ValueError, match="expected 4D input"):
        norm(torch.zeros(5, 4))
