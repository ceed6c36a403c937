"""Options of `chita.prune` and its kin that have no part, or do not go together."""

import importlib
import sys

import pytest
import torch
from torch import nn

import chita
from chita.constraints import KeepK
from chita.constraints.constraint import Budget
from chita.data.digits import digits
from chita.options import option
from chita.solvers import CHITA
from chita.solvers.named import make_solver

DATA = (torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2)
MASKS = {"weight": torch.tensor([[True, False, True, False]] * 2)}
FIXED = chita.Quadratic(ridge=1.0, first_order=0, step_size=1)


class KeepEach(Budget, kw_only=False):
    """A budget of one's own, which no words say."""

    count: int = option(10, "Weights kept of every tensor.")

    def kept(self, layout):
        return self.count * len(layout.names)

    def on_the_way(self, removed, layout):
        return self

    def bind(self, layout):
        least = (self.count,) * len(layout.names)
        return KeepK(size=layout.size, k=self.kept(layout), segments=layout.segments, least=least)


class Stop(Exception):
    pass


def interrupted(budget, path, solver="magnitude"):
    """A run of two stages that ends after the first."""

    class Logger:
        def log(self, values, step):
            if step == 2:
                raise Stop

    model, data = chita.load_model("digits-mlp"), digits()[0]
    options = {"solver": solver, "stages": 2, "checkpoint": chita.Checkpoint(path, resume=True)}
    with pytest.raises(Stop):
        chita.prune(model, data, budget=budget, **options, logger=Logger())
    return lambda other: chita.prune(model, data, budget=other, **options)


def test_a_run_goes_on_only_under_its_own_budget(tmp_path):
    """Words do not say all of every budget."""
    resumed = interrupted(KeepEach(300), tmp_path / "run")
    with pytest.raises(chita.InputError, match="`budget` was 'KeepEach"):
        resumed(KeepEach(500))
    assert resumed(KeepEach(300)).record.nnz == 900


def test_a_record_holds_a_budget_that_no_words_say():
    layer = nn.Linear(4, 2, bias=False)
    own = chita.prune(layer, budget=KeepEach(3), solver="magnitude").record.settings
    assert own["budget"] == "KeepEach(count=3)"
    usual = chita.prune(layer, sparsity=0.5, solver="magnitude").record.settings
    assert "budget" not in usual
    assert usual["sparsity"] == 0.5
    assert usual["nnz"] is None


@pytest.mark.parametrize("name", ["fisher", "quadratic", "memory"])
def test_only_training_may_be_none(name):
    with pytest.raises(chita.InputError, match=f"`{name}` is None; give options as chita"):
        chita.prune(nn.Linear(4, 2), DATA, sparsity=0.5, **{name: None})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"layerwise": "yes"}, "`layerwise` is 'yes'; give True or False"),
        ({"inplace": "no"}, "`inplace` is 'no'; give True or False"),
        ({"validation": 0}, "`validation` is 0, but auto chooses"),
        ({"solver": "magnitude", "validation": -1}, "`validation` is -1"),
        ({"solver": chita.solvers.Magnitude(bound=True)}, "magnitude collects no gradients"),
        (
            {"solver": "alps", "sparsity": None, "budget": "search & sparsity=0.5"},
            "table of levels",
        ),
    ],
)
def test_what_cannot_be_is_refused(options, told):
    with pytest.raises(chita.InputError, match=told):
        chita.prune(nn.Linear(4, 2), DATA, **{"sparsity": 0.5, **options})


def test_validation_may_be_none_where_nothing_is_chosen():
    fisher = chita.Fisher(samples=20, structure="full")
    options = {"fisher": fisher, "quadratic": FIXED, "validation": 0}
    for solver in ("chita", "cbs"):
        found = chita.prune(nn.Linear(4, 2), DATA, sparsity=0.5, solver=solver, **options)
        assert found.record.validation == 0


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"stages": chita.Stages(2)}, "stages"),
        ({"stages": chita.Stages(regrow=False)}, "regrow"),
        ({"fisher": chita.Fisher(history=2)}, "history"),
    ],
)
def test_options_that_have_no_part_are_refused(options, name):
    with pytest.raises(chita.InputError, match=f"`{name}` have no part in refitting"):
        chita.refit(nn.Linear(4, 2), DATA, MASKS, **options)
    with pytest.raises(chita.InputError, match=f"`{name}` have no part in sensitivity"):
        chita.sensitivity(nn.Linear(4, 2), DATA, **options)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"solver": "alps", "stages": 3}, "takes no `stages`"),
        ({"solver": "woodfisher", "fisher": chita.Fisher(structure="outputs")}, "in full"),
        ({"fisher": chita.Fisher(samples=100)}, "need 100 samples"),
        ({"quadratic": None}, "`quadratic` is None"),
    ],
)
def test_a_plan_refuses_what_a_run_refuses(options, told):
    for asked in (chita.prune, chita.plan):
        with pytest.raises(chita.InputError, match=told):
            asked(nn.Linear(4, 2), DATA, sparsity=0.5, **options)


def test_sensitivity_shows_its_progress(capsys):
    chita.sensitivity(nn.Linear(4, 2), DATA, solver="magnitude", progress=True)
    assert "measure" in capsys.readouterr().err


OWN = """
from __future__ import annotations
from typing import TYPE_CHECKING, ClassVar
from chita.options import option
from chita.solvers.solver import Selection, Solver
if TYPE_CHECKING:
    from chita.problem import Curvature

class Mine(Selection):
    curvatures: ClassVar[tuple[type[Curvature], ...]] = ()
    count: int | None = option(None, "A number.")
    def values(self, problem):
        return problem.w_bar

class Needy(Mine):
    power: float = option(help="A power.")
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_asked_of_test.py").write_text(OWN)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    yield "own_asked_of_test"
    sys.modules.pop("own_asked_of_test", None)


def test_own_solvers_with_annotations_for_checkers_and_options_to_be_given(own):
    assert make_solver(f"{own}:Mine", {"count": "3"}).count == 3
    assert make_solver(f"{own}:Mine", {"count": "none"}).count is None
    assert make_solver(f"{own}:Needy", {"power": "2"}).power == 2.0
    with pytest.raises(chita.InputError, match=r"Needy: power is missing; give power="):
        make_solver(f"{own}:Needy")
    with pytest.raises(chita.InputError, match="is abstract"):
        make_solver("chita.solvers.solver:Solver")


def test_all_wrong_options_of_a_solver_are_named_without_marks():
    """Marks would make the command line's own --seed of the solver's option."""
    with pytest.raises(chita.InputError, match="Options of cbs: ") as error:
        make_solver("cbs", {"seed": -1, "draws": "x"})
    assert "`" not in str(error.value)
    assert "seed is -1" in str(error.value)
    assert "draws is 'x'" in str(error.value)
    assert make_solver("chita", {"bound": "TRUE"}) == CHITA(bound=True)
