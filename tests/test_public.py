"""What `import chita` gives."""

import inspect
import subprocess
import sys

import pytest
import torch
from torch import nn

import chita
from chita.options import described
from chita.solvers import SOLVERS

DATA = (torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 2)


@pytest.mark.parametrize("name", chita.__all__)
def test_every_public_name_has_an_example(name):
    """Doctests run them; here it is shown that there is one."""
    assert ">>> " in inspect.getdoc(getattr(chita, name))


@pytest.mark.parametrize("solver", SOLVERS.values())
def test_every_solver_has_an_example(solver):
    assert ">>> " in inspect.getdoc(solver)


def test_prune_takes_few_arguments():
    assert len(inspect.signature(chita.prune).parameters) <= 22


def test_import_is_lazy():
    """Neither the package nor a group of options needs torch."""
    code = "import sys, chita; chita.Fisher(); chita.Stages(2); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_unknown_names_are_no_attributes():
    with pytest.raises(AttributeError, match="attribute pruen"):
        _ = chita.pruen
    assert set(chita.__all__) == set(dir(chita))


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("fisher", "improved", "Fisher"),
        ("quadratic", {"ridge": 1}, "Quadratic"),
        ("memory", 100, "Memory"),
        ("training", 8, "Training"),
    ],
)
def test_a_group_that_is_something_else_is_refused(name, value, kind):
    with pytest.raises(chita.InputError, match=rf"`{name}` is .*; give options as chita.{kind}"):
        chita.prune(nn.Linear(4, 2), DATA, sparsity=0.5, **{name: value})


def test_a_solver_by_its_place():
    """A class of one's own is named as package.module:Class, in the record, too."""
    layer = nn.Linear(4, 2, bias=False)
    by_place = chita.prune(layer, sparsity=0.5, solver="chita.solvers.magnitude:Magnitude")
    by_name = chita.prune(layer, sparsity=0.5, solver="magnitude")
    assert torch.equal(by_place.masks["weight"], by_name.masks["weight"])
    with pytest.raises(chita.InputError, match="no subclass of chita"):
        chita.prune(layer, sparsity=0.5, solver="torch.nn:Linear")


def test_every_option_is_in_help_and_record():
    """The settings of a record are generated from the fields, and so are docstrings."""
    groups = (chita.Fisher(), chita.Quadratic(), chita.Stages(), chita.Memory())
    record = chita.prune(nn.Linear(4, 2), DATA, sparsity=0.5, solver="magnitude").record
    for group in groups:
        for entry in described(type(group)):
            assert entry.flag in record.settings
            assert f"{entry.name}: {entry.spec.help}" in inspect.getdoc(type(group))


def test_all_faults_of_a_group_are_told_at_once():
    with pytest.raises(chita.InputError) as error:
        chita.Fisher(samples=0, labels="dta", history=-1)
    for name in ("`samples` is 0", "`labels` is 'dta'", "Did you mean data", "`history` is -1"):
        assert name in str(error.value)
