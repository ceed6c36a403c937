import pytest
from torch import nn

from chita.models.mode import evaluation_mode


def test_flags_come_back_even_when_the_block_fails():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[1].eval()

    def block():
        with evaluation_mode(model):
            assert not any(module.training for module in model.modules())
            raise KeyError

    with pytest.raises(KeyError):
        block()
    assert [module.training for module in model.modules()] == [True, True, False]
