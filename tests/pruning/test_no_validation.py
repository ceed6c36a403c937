"""No validation samples: what they would choose must be given, and is asked for in words."""

import pytest
import torch
from torch import nn

import chita

DATA = torch.randn(60, 6), torch.randint(3, (60,))
FIXED = {"ridge": 0.1, "first_order": 0, "step_size": 1}


def network():
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


@pytest.mark.parametrize("solver", ["chita", "cbs"])
@pytest.mark.parametrize("left", FIXED)
def test_each_setting_that_is_left_open_is_refused(left, solver):
    quadratic = chita.Quadratic(**{name: v for name, v in FIXED.items() if name != left})
    with pytest.raises(chita.InputError, match=r"`validation` is 0.*give"):
        chita.prune(
            network(),
            DATA,
            sparsity=0.5,
            solver=solver,
            validation=0,
            fisher=chita.Fisher(samples=20, structure="full"),
            quadratic=quadratic,
        )


@pytest.mark.parametrize("stages", [1, 3])
@pytest.mark.parametrize("solver", ["chita", "cbs", "alps"])
def test_nothing_left_open_needs_none(solver, stages):
    layered = solver == "alps"
    found = chita.prune(
        network(),
        DATA,
        sparsity=0.5,
        solver=solver,
        validation=0,
        stages=1 if layered else stages,
        fisher=chita.Fisher(samples=20, structure="auto"),
        quadratic=chita.Quadratic() if layered else chita.Quadratic(**FIXED),
    )
    assert found.record.nnz == 36
    assert found.record.validation in {0, None}


@pytest.mark.parametrize(
    "call",
    [
        lambda: chita.sensitivity(network(), DATA, validation=0),
        lambda: chita.plan(network(), DATA, sparsity=0.5, validation=0),
        lambda: chita.prune(network(), DATA, sparsity=0.5, validation=0, stages=4),
        lambda: chita.refit(
            network(),
            DATA,
            chita.prune(network(), sparsity=0.5, solver="magnitude").masks,
            validation=0,
        ),
    ],
    ids=["sensitivity", "plan", "stages", "refit"],
)
def test_every_command_says_so(call):
    with pytest.raises(chita.InputError, match="`validation` is 0"):
        call()
