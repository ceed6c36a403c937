import pytest
import torch
from torch import nn

from chita.data.batches import Examples
from chita.errors import InputError
from chita.training.evaluate import accuracy


def test_accuracy_over_several_batches_is_a_count():
    data = Examples(torch.eye(4).repeat(600, 1), torch.tensor([0, 1, 2, 0]).repeat(600))
    model = nn.Identity()
    model.train()
    assert accuracy(model, data) == 75.0
    assert model.training


def test_targets_in_a_column_are_refused_and_pairs_are_data():
    with pytest.raises(InputError, match=r"targets \(4, 1\)"):
        accuracy(nn.Identity(), (torch.eye(4), torch.zeros(4, 1)))
    assert accuracy(nn.Identity(), (torch.eye(4), torch.arange(4))) == 100
    with pytest.raises(InputError, match="give a pair"):
        accuracy(nn.Identity(), 3)


def test_outputs_that_are_no_classes_are_refused():
    data = Examples(torch.zeros(3, 2, 2), torch.zeros(3).long())
    with pytest.raises(InputError, match=r"gave \(3, 2, 2\) for targets"):
        accuracy(nn.Identity(), data)
