"""What the tests of collecting share."""

import pytest

from chita.collect.backends import BACKENDS
from chita.collect.gradients import collect_gradients

every_backend = pytest.mark.parametrize("fastest", BACKENDS)


def rows_of(*arguments, **options):
    """The rows alone."""
    return collect_gradients(*arguments, **options).rows
