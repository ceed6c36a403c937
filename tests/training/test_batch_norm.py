import pytest
import torch
from torch import nn

from chita.data.examples import Examples
from chita.errors import NumericalError
from chita.losses import LOSSES, make_loss
from chita.training.batch_norm import batch_norms, batch_statistics, recalibrate

CROSS = LOSSES["cross_entropy"]


def network():
    torch.manual_seed(0)
    layers = nn.Linear(3, 5), nn.BatchNorm1d(5, momentum=0.3), nn.Dropout(0.5), nn.Linear(5, 2)
    return nn.Sequential(*layers).eval()


def samples(count):
    return Examples((torch.randn(count, 3), torch.randint(2, (count,))))


@pytest.mark.parametrize("count", [2, 100, 500])
def test_statistics_are_those_of_what_the_layer_sees(count):
    model, given = network(), samples(count)
    before = {n: p.clone() for n, p in model.named_parameters()}
    with torch.no_grad():
        seen = model[0](given.batch[0])
    recalibrate(model, given, CROSS)
    torch.testing.assert_close(model[1].running_mean, seen.mean(0))
    variances = [part.var(0) for part in seen.split(count if count < 250 else 250)]
    torch.testing.assert_close(model[1].running_var, torch.stack(variances).mean(0))
    assert model[1].momentum == 0.3
    assert not any(module.training for module in model.modules())
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())


def test_an_error_leaves_the_statistics_as_they_were():
    model = network()
    model[1].running_mean.fill_(3.0)

    def fail(_model, _batch):
        _model(_batch[0])
        raise ZeroDivisionError

    with pytest.raises(Exception, match="ZeroDivisionError"):
        recalibrate(model, samples(10), make_loss(fail, samples(10).batch))
    assert torch.equal(model[1].running_mean, torch.full((5,), 3.0))
    assert int(model[1].num_batches_tracked) == 0
    assert (model[1].momentum, model[1].training) == (0.3, False)


def test_what_was_there_before_can_be_put_back():
    model = network()
    model[1].running_mean.fill_(3.0)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    put_back = recalibrate(model, samples(10), CROSS)
    assert not torch.equal(model[1].running_mean, before["1.running_mean"])
    put_back()
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_statistics_that_are_not_finite_are_an_error():
    model, given = network(), samples(300)
    given.batch[0][7] = torch.nan
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(NumericalError, match=r"batch norm '1'.*bn_recalibrate"):
        recalibrate(model, given, CROSS)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert model[1].momentum == 0.3


def test_nothing_but_the_statistics_changes():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.words = nn.Embedding(9, 5, max_norm=0.1)
            self.norm = nn.BatchNorm1d(5)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x):
            self.calls += 1
            return self.norm(self.words(x))

    model = Counting().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    given = Examples((torch.arange(8), torch.randint(5, (8,))))
    recalibrate(model, given, CROSS)
    changed = {n for n, tensor in model.state_dict().items() if not torch.equal(tensor, before[n])}
    assert changed == {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}


def test_with_the_statistics_of_a_batch_it_is_as_if_recalibrated():
    model, given = network(), samples(200)
    before = model[1].running_mean.clone()
    with batch_statistics(model), torch.no_grad():
        seen = model(given.batch[0])
        assert not model[2].training
    assert torch.equal(model[1].running_mean, before)
    recalibrate(model, given, CROSS)
    with torch.no_grad():
        torch.testing.assert_close(model(given.batch[0]), seen, rtol=0.05, atol=0.05)


def test_norms_without_running_statistics_are_left_out():
    norms = nn.BatchNorm2d(2, track_running_stats=False), nn.SyncBatchNorm(2), nn.LayerNorm(2)
    assert not batch_norms(nn.Sequential(*norms))
