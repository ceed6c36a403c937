"""What single weights cost: counted by hand."""

import pytest
import torch
from torch import nn

from chita.collect.cost import sample_cost, with_operations
from chita.errors import InputError
from chita.losses import LOSSES, make_loss
from chita.models.prunable import prunable_layout


class First(nn.Module):
    """What a recurrent or attention module gives, without its states."""

    def __init__(self, inner, *more):
        super().__init__()
        self.inner, self.fc = inner, nn.Linear(6, 3)
        self.more = more

    def forward(self, x):
        inputs = (x, x, x) if isinstance(self.inner, nn.MultiheadAttention) else (x,)
        return self.fc(self.inner(*inputs)[0].mean(1))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4, bias=False)

    def forward(self, x):
        return self.fc(self.fc(x))


class Looks(nn.Module):
    """Needs values, so that shapes alone do not tell."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x):
        return self.fc(x) if float(x.sum()) > -1e9 else x


def operations(model, *shape):
    layout = prunable_layout(model)
    sample = (torch.zeros(1, *shape), torch.zeros(1).long())
    return dict(zip(layout.names, found(layout, model, sample).each, strict=True))


def found(layout, model, sample):
    return with_operations(layout, model, LOSSES["cross_entropy"], sample).operations


def test_convolutions_cost_their_output_positions():
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1, stride=2, groups=2),
        nn.ConvTranspose2d(6, 2, 2, stride=2),  # every weight meets every input position
        nn.Flatten(),
        nn.Linear(2 * 64, 5),
    )
    assert operations(model, 4, 8, 8) == {"0.weight": 16, "1.weight": 16, "3.weight": 1}


def test_a_linear_layer_costs_its_positions():
    model = nn.Sequential(nn.Linear(4, 6), nn.Flatten(), nn.Linear(18, 2))
    assert operations(model, 3, 4) == {"0.weight": 3, "2.weight": 1}


def test_a_weight_that_is_used_twice_costs_twice():
    assert operations(Twice(), 4) == {"fc.weight": 2}


def test_recurrent_layers_cost_their_steps():
    model = First(nn.LSTM(5, 6, batch_first=True))
    costs = {"inner.weight_ih_l0": 7, "inner.weight_hh_l0": 7, "fc.weight": 1}
    assert operations(model, 7, 5) == costs


def test_attention_costs_its_positions_and_what_it_mixes_is_fixed():
    model = First(nn.MultiheadAttention(6, 2, batch_first=True)).eval()
    costs = {"inner.in_proj_weight": 5, "inner.out_proj.weight": 5, "fc.weight": 1}
    assert operations(model, 5, 6) == costs
    layout = prunable_layout(model)
    sample = (torch.zeros(1, 5, 6), torch.zeros(1).long())
    assert found(layout, model, sample).fixed == 2 * 5 * 5 * 6  # queries by keys, weights by values


def test_a_layer_that_is_not_pruned_is_fixed():
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 2))
    layout = prunable_layout(model, ignore=["0"])
    sample = (torch.zeros(1, 4), torch.zeros(1).long())
    assert (found(layout, model, sample).each, found(layout, model, sample).fixed) == ((1,), 24)


def test_where_shapes_do_not_tell_the_network_is_run():
    assert operations(Looks(), 4) == {"fc.weight": 1}


def test_a_weight_without_a_product_is_refused():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.idle = nn.Linear(4, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.fc(x)

    with pytest.raises(InputError, match=r"no product with idle.weight"):
        operations(Idle(), 4)


def test_a_mask_that_hides_nothing_is_not_looked_at():
    class Looks(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 3)

        def forward(self, x, attention_mask=None):
            if attention_mask is not None and not bool(attention_mask.all()):
                x = x * attention_mask.unsqueeze(-1)
            return self.inner(x)

    def loss_of(model, batch):
        return model(**batch).mean()

    batch = {"x": torch.ones(1, 5, 4), "attention_mask": torch.ones(1, 5)}
    cost = sample_cost(Looks(), make_loss(loss_of, batch), batch)
    assert cost is not None
    assert cost.flops == 2 * 5 * 4 * 3
    batch["attention_mask"][0, 0] = 0
    assert sample_cost(Looks(), make_loss(loss_of, batch), batch) is None
