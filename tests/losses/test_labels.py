"""Labels drawn from a network: which losses can, and which positions stay left out."""

import pytest
import torch
from torch import nn

from chita.errors import InputError
from chita.losses import check_loss
from chita.losses.outputs import CrossEntropy
from chita.losses.whole import CustomLoss, OwnLoss
from tests.losses.test_losses import Fixed, seeded


def test_only_likelihoods_draw_labels():
    tokens = {"labels": torch.zeros(2, 3).long()}
    answer = {"loss": torch.tensor(1.0), "logits": torch.zeros(2, 3, 5)}
    for loss, batch in (
        (OwnLoss(), tokens),
        (CustomLoss(lambda model, batch: model(**batch)["loss"]), tokens),
    ):
        with pytest.raises(InputError, match=rf'this is {loss.name}, .* Use labels="data"'):
            loss.relabelled(Fixed(answer), batch, seeded())


def test_the_own_loss_of_a_classifier_draws_labels_by_its_softmax():
    logits = torch.tensor([[0.0, 50.0, 0.0], [50.0, 0.0, 0.0]])
    batch = {"x": torch.zeros(2, 1), "labels": torch.tensor([2, 2])}
    model = Fixed({"loss": torch.tensor(1.0), "logits": logits})
    drawn = OwnLoss().relabelled(model, batch, seeded())
    assert drawn["labels"].tolist() == [1, 0]
    assert drawn["x"] is batch["x"]
    assert batch["labels"].tolist() == [2, 2]
    ignored = {**batch, "labels": torch.tensor([-100, 2])}
    assert OwnLoss().relabelled(model, ignored, seeded())["labels"].tolist() == [-100, 0]


def test_positions_that_the_data_leave_out_stay_left_out():
    targets = torch.tensor([[1, -100], [-100, 0]])
    batch = (torch.zeros(2, 1), targets)
    drawn = CrossEntropy().relabelled(Fixed(torch.zeros(2, 3, 2)), batch, seeded())[1]
    assert ((drawn == -100) == (targets == -100)).all()


def test_a_module_of_outputs_and_targets_is_no_loss_of_model_and_batch():
    with pytest.raises(InputError, match="a CrossEntropyLoss of outputs and targets"):
        check_loss(nn.CrossEntropyLoss())
