"""Options and arguments that cannot be used: each gets one message, which names it."""

import pytest
import torch

import chita
from chita.data.digits import digits
from chita.errors import InputError

BAD_FISHER = [
    ({"samples": 0}, "`samples` is 0; give a whole number of at least 1"),
    ({"samples": 2.5}, "`samples` is 2.5"),
    ({"samples_per_gradient": 0}, "`samples_per_gradient` is 0"),
    ({"weighting": "true"}, "`weighting` is 'true'; give one of 'auto', 'improved', 'empirical'"),
    ({"labels": "mine"}, "`labels` is 'mine'"),
    ({"history": -1}, "`history` is -1"),
]
BAD_QUADRATIC = [
    ({"ridge": "abc"}, "`ridge` is 'abc'"),
    ({"ridge": -1}, "`ridge` is -1"),
    ({"ridge": float("nan")}, "`ridge` is nan"),
    ({"first_order": float("inf")}, "`first_order` is inf"),
    ({"first_order": "one"}, "`first_order` is 'one'"),
    ({"step_size": -0.1}, "`step_size` is -0.1; give a number from 0 to 1"),
    ({"step_size": 1.5}, "`step_size` is 1.5"),
]
BAD_STAGES = [
    ({"count": 0}, "`stages` is 0; give a whole number of at least 1"),
    ({"schedule": "expo"}, "Unknown schedule 'expo'. Did you mean exp"),
    ({"schedule": (0.5, 0.4, 0.9)}, "goes from 0.5 to 0.4"),
    ({"schedule": (0.5, float("nan"))}, "`schedule` has nan"),
    ({"count": 3, "schedule": (0.5, 0.9)}, "lists 2 sparsities"),
    ({"schedule": ()}, r"`schedule` is \(\); give one of"),
    ({"regrow": "no"}, "`regrow` is 'no'"),
]


@pytest.mark.parametrize(
    ("group", "options", "message"),
    [
        *((chita.Fisher, *case) for case in BAD_FISHER),
        *((chita.Quadratic, *case) for case in BAD_QUADRATIC),
        *((chita.Stages, *case) for case in BAD_STAGES),
        (chita.Nonzeros, {"nnz": 3.7}, "nnz` is 3.7"),
        (chita.Nonzeros, {"nnz": "5"}, "nnz` is '5'"),
        (chita.Sparsity, {"sparsity": "0.9"}, "sparsity` is '0.9'"),
        (chita.Sparsity, {"sparsity": 1.0}, "Share of the weights to remove"),
    ],
)
def test_bad_options_get_one_message(group, options, message):
    with pytest.raises(InputError, match=message):
        group(**options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"budget": None}, "got neither"),
        ({"sparsity": 0.5}, "Give either .*; got both"),
        ({"budget": None, "sparsity": 1.0}, "Share of the weights to remove"),
        ({"budget": None, "sparsity": "0.9"}, "sparsity` is '0.9'"),
        ({"budget": chita.Nonzeros(10**6)}, "weights to keep out of"),
        ({"solver": "chitta"}, "Did you mean chita"),
        ({"solver": chita.solvers.CHITA}, "give a name .* a solver such as"),
        ({"fisher": chita.Fisher(samples=10_000)}, "need 10000 samples"),
        ({"data": None}, "needs calibration data"),
        ({"data": 3}, "The data are a int"),
        ({"data": [(torch.zeros(()), torch.zeros(()))]}, "DataLoader"),
        ({"seed": None}, "seed` is None"),
        ({"seed": None, "solver": "magnitude"}, "seed` is None"),
        ({"validation": -1}, "validation` is -1"),
        ({"stages": 0}, "`stages` is 0; give a whole number of at least 1"),
        (
            {"budget": chita.Sparsity(0.9), "stages": chita.Stages(schedule=(0.5, 0.8))},
            "ends at sparsity 0.8",
        ),
    ],
)
def test_bad_arguments_get_one_message(arguments, message):
    model = chita.load_model("digits-mlp")
    usual = {"data": digits()[0], "budget": chita.Nonzeros(5), "fisher": chita.Fisher(samples=20)}
    with pytest.raises(InputError, match=message):
        chita.prune(model, **{**usual, **arguments})


@pytest.mark.parametrize("given", [None, {"accuracy": 0.9}, torch.ones(2)])
def test_a_measure_that_gives_no_number_is_named(given):
    model, data = chita.load_model("digits-mlp"), digits()[0]
    training = chita.Training(epochs=1, events=1)
    options = {"solver": "magnitude", "sparsity": 0.5, "training": training, "validation": 0}
    with pytest.raises(InputError, match=r"`measure` gave .*; it must return a number"):
        chita.prune(model, data, measure=lambda _: given, **options)
