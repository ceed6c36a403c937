"""Two sets of samples, given where there should be one."""

import pytest
import torch

from chita.data.batches import batches_of
from chita.data.examples import Examples
from chita.data.sampler import draw
from chita.errors import InputError
from tests.data.test_batches import numbers, padded, pair


def test_calibration_and_evaluation_together_are_no_data():
    own = ((torch.zeros(4, 2), torch.ones(4, 3)), torch.zeros(4))
    several = {"x": torch.zeros(4, 2)}, torch.zeros(4)
    for one, other in (
        (pair(0, 4), pair(4, 6)),
        ([*pair(0, 4)], [*pair(4, 6)]),
        (own, own),
        (several, several),
        (padded(0, 4, 3), padded(4, 6, 3)),
        (Examples(pair(0, 4)), Examples(pair(4, 6))),
        (pair(0, 4), Examples(pair(4, 6))),
    ):
        for reader in (lambda data: draw(data, 2, 0), lambda data: [*batches_of(data, 2)]):
            with pytest.raises(InputError, match=r"two sets of samples.*give only the first"):
                reader((one, other))
    assert numbers(draw([pair(0, 4), pair(4, 6)], 6, 0)) == [*range(6)]
    for data in (own, several, [own, own]):
        assert len(draw(data, 3, 0)) == 3
