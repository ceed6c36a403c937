from itertools import pairwise

import pytest

from chita.pruning.schedule import SCHEDULES, Stages


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("count", [1, 2, 7, 20])
@pytest.mark.parametrize("final", [0.0, 0.3, 0.98])
def test_every_schedule_rises_to_the_final_sparsity(schedule, count, final):
    found = Stages(count=count, schedule=schedule).sparsities(final)
    assert len(found) == count
    assert found[-1] == final
    assert all(0 <= a <= b <= final for a, b in pairwise(found))


def test_schedules_by_hand():
    assert Stages(count=2, schedule="exp").sparsities(0.9) == (pytest.approx(0.6), 0.9)
    assert Stages(count=2, schedule="poly").sparsities(0.8) == (pytest.approx(0.7), 0.8)
    assert Stages(count=2, schedule="linear").sparsities(0.8) == (pytest.approx(0.4), 0.8)
    assert Stages(count=2, schedule="constant").sparsities(0.8) == (0.8, 0.8)
    assert Stages(count=2, schedule="geometric").sparsities(0.99) == (pytest.approx(0.9), 0.99)


def test_a_list_of_sparsities_gives_the_number_of_stages():
    stages = Stages(schedule=[0.5, 0.5, 0.9])
    assert stages.number == 3
    assert stages.sparsities(0.9) == (0.5, 0.5, 0.9)
    assert Stages().number == 1
