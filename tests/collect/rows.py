"""What the tests of collecting share."""

import pytest

from chita.collect.gradients import collect_gradients
from chita.collect.ways import WAYS

every_way = pytest.mark.parametrize("fastest", WAYS)


def rows_of(*arguments, **options):
    """The rows alone."""
    return collect_gradients(*arguments, **options).rows
