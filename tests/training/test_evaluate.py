import math

import pytest
import torch
from torch import nn

from chita.data.examples import Examples
from chita.errors import InputError
from chita.training.evaluate import evaluate, usual_count


def test_accuracy_over_several_batches_is_a_count():
    data = Examples((torch.eye(4).repeat(600, 1), torch.tensor([0, 1, 2, 0]).repeat(600)))
    model = nn.Identity()
    model.train()
    score = evaluate(model, data)
    assert (score.value, score.count) == (75.0, 2400)
    assert score.metric == "top-1 accuracy, per cent"
    assert str(score) == "top-1 accuracy, per cent: 75.00"
    assert model.training


def test_targets_in_a_column_are_refused_and_pairs_are_data():
    with pytest.raises(InputError, match=r"targets \(4, 1\)"):
        evaluate(nn.Identity(), (torch.eye(4), torch.zeros(4, 1).long()))
    assert evaluate(nn.Identity(), (torch.eye(4), torch.arange(4))).value == 100
    with pytest.raises(InputError, match="give a pair"):
        evaluate(nn.Identity(), 3)


def test_pixels_are_counted_one_by_one_and_ignored_ones_not():
    outputs = torch.zeros(2, 3, 2, 2)
    outputs[:, 1] = 1
    targets = torch.tensor([[[1, 1], [0, -100]], [[1, 2], [1, 1]]])
    score = evaluate(nn.Identity(), (outputs, targets))
    assert score.metric == "pixel accuracy, per cent"
    assert (score.value, score.count) == (pytest.approx(100 * 5 / 7), 7)


def test_regression_is_measured_by_its_mean_square_over_uneven_batches():
    batches = [(torch.zeros(3, 2), torch.ones(3, 2)), (torch.zeros(1, 2), torch.full((1, 2), 3.0))]
    score = evaluate(nn.Identity(), batches, loss="mse")
    assert score.metric == "mean squared error"
    assert score.value == pytest.approx((6 * 1 + 2 * 9) / 8)
    with pytest.raises(InputError, match="shaped as the outputs"):
        evaluate(nn.Identity(), (torch.zeros(3, 1), torch.zeros(3)), loss="mse")


def test_a_loss_of_ones_own_is_the_measure_weighted_by_samples():
    batches = [torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[6.0]])]

    def level(model, batch):
        return model(batch).mean()

    score = evaluate(nn.Identity(), batches, loss=level)
    assert score.metric == "mean loss (level), by samples"
    assert score.value == pytest.approx(3.0)


def test_data_that_can_be_read_once_are_refused():
    with pytest.raises(InputError, match="only once"):
        evaluate(nn.Identity(), iter([(torch.eye(4), torch.arange(4))]))
    with pytest.raises(InputError, match="yield no batch"):
        evaluate(nn.Identity(), [])


def test_text_runs_in_few_sequences_at_a_time():
    sizes = []

    class Teller(nn.Module):
        def forward(self, input_ids, labels):
            sizes.append(len(input_ids))
            logits = torch.zeros(*input_ids.shape, 7)
            return {"loss": torch.tensor(2.0), "logits": logits}

    ids = torch.randint(7, (20, 600))
    score = evaluate(Teller(), {"input_ids": ids, "labels": ids})
    assert sizes == [1] + [3] * 6 + [2]  # one shows what each takes
    assert score.metric == "perplexity"
    assert score.value == pytest.approx(math.exp(2))


def test_text_is_measured_on_fewer_samples_by_default():
    ids = torch.randint(7, (3, 5))
    told = {"input_ids": ids, "labels": ids}
    assert usual_count(told) == usual_count([told]) == 64
    classified = {"input_ids": ids, "labels": torch.zeros(3).long()}
    for other in (classified, {"input_ids": ids}, (torch.zeros(2, 3), torch.zeros(2))):
        assert usual_count(other) == 2000
