"""Budgets from words and texts, back to words, and two of them together."""

import re
from dataclasses import fields
from inspect import isabstract

import pytest
import torch

from chita.budget_options import BudgetOptions
from chita.constraints import (
    AtLeastNofM,
    Blocks,
    Budget,
    ByOutliers,
    FixedMasks,
    Flops,
    MaxLoss,
    Megabytes,
    NofM,
    Nonzeros,
    PerLayer,
    PerOutput,
    Quotas,
    Searched,
    Sparsity,
    as_budget,
    budget_of,
)
from chita.constraints.parse import parse_budget, read_levels
from chita.errors import InputError

LEVELS = {"a": [(0.0, 0.0), (0.5, 0.1)], "b*": [(0.9, 2.0)]}
SAID = {
    "sparsity=0.9": (Sparsity(0.9), {"sparsity": 0.9, "min_keep": 1}),
    "nnz=5000 & min_keep=0": (Nonzeros(5000, min_keep=0), {"nnz": 5000, "min_keep": 0}),
    "megabytes=0.25": (Megabytes(0.25), {"megabytes": 0.25, "min_keep": 1}),
    "2:4": (NofM(2, 4), {"pattern": "2:4"}),
    "4x1 & sparsity=0.8": (
        Blocks(4, 1, sparsity=0.8),
        {"blocks": "4x1", "sparsity": 0.8, "min_keep": 1},
    ),
    "uniform & sparsity=0.8": (
        PerLayer(0.8),
        {"per_layer": "uniform", "sparsity": 0.8, "min_keep": 1},
    ),
    "sparsity=0.8 & erk & min_keep=3": (
        PerLayer(0.8, distribution="erk", min_keep=3),
        {"per_layer": "erk", "sparsity": 0.8, "min_keep": 3},
    ),
    "outputs & sparsity=0.8": (
        PerOutput(0.8),
        {"per_layer": "outputs", "sparsity": 0.8, "min_keep": 1},
    ),
    "owl & sparsity=0.8": (ByOutliers(0.8), {"per_layer": "owl", "sparsity": 0.8, "min_keep": 1}),
    "flops=0.3": (Flops(0.3), {"flops": 0.3, "min_keep": 1}),
    "flops=0.3 & sparsity=0.8 & min_keep=2": (
        Flops(0.3, weights=Sparsity(0.8), min_keep=2),
        {"flops": 0.3, "sparsity": 0.8, "min_keep": 2},
    ),
    "flops=0.3&nnz=50": (
        Flops(0.3, weights=Nonzeros(50)),
        {"flops": 0.3, "nnz": 50, "min_keep": 1},
    ),
    "search & megabytes=1.5 & min_keep=2": (
        Searched(Megabytes(1.5, min_keep=2)),
        {"per_layer": "search", "megabytes": 1.5, "min_keep": 2},
    ),
    "max_loss=1.5": (MaxLoss(1.5), {"max_loss": 1.5, "min_keep": 1}),
    "max_loss=2 & 4x1 & min_keep=3": (
        MaxLoss(2, like=Blocks(4, 1, sparsity=0.5, min_keep=3)),
        {"max_loss": 2.0, "blocks": "4x1", "min_keep": 3},
    ),
    "search & flops=1 & nnz=50": (
        Searched(Flops(1) & Nonzeros(50)),
        {"per_layer": "search", "flops": 1.0, "nnz": 50, "min_keep": 1},
    ),
}
TABLES = {
    "quotas": (
        Quotas({"a": 0.5, "b*": 0}, min_keep=2),
        {"per_layer": {"a": 0.5, "b*": 0.0}, "min_keep": 2},
    ),
    "levels": (
        Searched(Sparsity(0.5), levels=LEVELS),
        {
            "per_layer": {"a": [[0.0, 0.0], [0.5, 0.1]], "b*": [[0.9, 2.0]]},
            "sparsity": 0.5,
            "min_keep": 1,
        },
    ),
}
UNSAID = {
    "masks": FixedMasks({"a": torch.ones(2, dtype=torch.bool)}),
    "on the way": AtLeastNofM(pattern=NofM(1, 2), sparsity=0.3),
}


def test_every_budget_stands_here():
    found = {type(budget) for budget, _ in (SAID | TABLES).values()} | set(
        map(type, UNSAID.values())
    )
    kinds = {kind for base in (Budget, *Budget.__subclasses__()) for kind in base.__subclasses__()}
    whole = {kind for kind in kinds if not isabstract(kind)}
    assert {kind for kind in whole if kind.__module__.startswith("chita.")} == found


@pytest.mark.parametrize("text", SAID)
def test_texts_make_budgets(text):
    assert parse_budget(text) == SAID[text][0]
    assert as_budget(text, None) == SAID[text][0]


@pytest.mark.parametrize("name", SAID | TABLES)
def test_budgets_and_words_say_the_same(name):
    budget, words = (SAID | TABLES)[name]
    assert budget.words == words
    assert words.keys() <= {field.name for field in fields(BudgetOptions)}
    assert budget_of(BudgetOptions(**words)) == budget


@pytest.mark.parametrize("name", UNSAID)
def test_what_no_words_say_has_none(name):
    assert UNSAID[name].words == {}


def test_an_object_or_a_share_is_taken_as_it_is():
    budget = NofM(1, 4)
    assert as_budget(budget, None) is budget
    assert as_budget(None, 0.9) == Sparsity(0.9)


@pytest.mark.parametrize("one", [Sparsity(0.8), Nonzeros(5), Megabytes(0.1)])
def test_flops_and_a_limit_of_weights_in_either_order(one):
    both = Flops(0.3) & one
    assert both == one & Flops(0.3) == Flops(0.3, weights=one)
    kind, first = type(one), next(iter(one.words.values()))
    for flops, weights in ((0, 3), (3, 0), (3, 3)):
        limited = Flops(0.3, min_keep=flops) & kind(first, min_keep=weights)
        assert limited.min_keep == limited.weights.min_keep == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Sparsity(0.8), Nonzeros(5)),
        (Flops(0.3), Flops(0.2)),
        (Flops(0.3), NofM(2, 4)),
        (NofM(2, 4), Sparsity(0.5)),
        (Flops(0.3) & Sparsity(0.5), Nonzeros(5)),
        (Flops(0.3), Searched(Sparsity(0.5))),
        (Flops(0.3), 0.8),
        (UNSAID["masks"], Flops(0.3)),
    ],
)
def test_other_pairs_are_refused(one, other):
    with pytest.raises(InputError, match="Combine one Flops with one Sparsity, Nonzeros or Mega"):
        one & other


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.9", "'0.9' in the budget '0.9' is not known"),
        ("spasity=0.9", "Did you mean sparsity?"),
        ("erq & sparsity=0.8", "Did you mean erk?"),
        ("", "'' in the budget '' is not known"),
        ("2:4 &", "Write a text such as"),
        ("sparsity=0.9 & sparsity=0.8", "gives sparsity twice"),
        ("2:4 & 1:4", "gives pattern twice"),
        ("sparsity=much", "`sparsity` is 'much'; give a number"),
        ("nnz=2.5", "`nnz` is '2.5'; give a whole number"),
        ("flops=1.5", "`flops` is 1.5; give a number above 0 and at most 1"),
        ("sparsity=nan", "`sparsity` is nan"),
        ("5:4", "5:4 keeps more weights than there are"),
        ("0:4", "`n` is 0; give a whole number of at least 1"),
        ("0x1 & sparsity=0.5", "`rows` is 0"),
        ("pattern=2-4", "`pattern` is '2-4'; write N:M"),
        ("blocks=4by1 & sparsity=0.5", "`blocks` is '4by1'; write outputs x inputs"),
        ("4x1", "`blocks` needs `sparsity`"),
        ("4x1 & nnz=5", "takes no `nnz`"),
        ("erk", "`per_layer` needs `sparsity`"),
        ("owl & megabytes=1", "takes no `megabytes`"),
        ("2:4 & sparsity=0.5", "the pattern says how many weights are kept. Leave `sparsity` out"),
        ("2:4 & flops=0.5", "`pattern` and `flops` are budgets of their own"),
        ("2:4 & search", "`pattern` and `per_layer` are budgets of their own"),
        ("erk & flops=0.5", "`per_layer` and `flops` are budgets of their own"),
        ("sparsity=0.5 & nnz=5", "got `sparsity` and `nnz`"),
        ("flops=0.5 & sparsity=0.5 & nnz=5", "got `sparsity` and `nnz`"),
        ("search", "Give one of `sparsity`"),
        ("min_keep=3", "got none"),
        (
            "per_layer=erq & sparsity=0.5",
            "`per_layer` erq is neither one of uniform, erk, outputs, search",
        ),
    ],
)
def test_texts_that_say_no_budget(text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        parse_budget(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"per_layer": {"a": 0.5}, "nnz": 5}, "the levels say how many weights are kept"),
        ({"per_layer": {"a": 2}}, "a: `sparsity` is 2"),
        ({"per_layer": {"a": "0.5"}}, "a: `sparsity` is '0.5'"),
        (
            {"per_layer": {"a": 0.5, "b": [[0.5, 1.0]]}, "nnz": 5},
            "0.5 are no levels of a; give a list of pairs",
        ),
        ({"per_layer": {"a": [0.5]}, "nnz": 5}, "[0.5] are no levels of a; give a list of pairs"),
        ({"per_layer": {"a": [[0.5, "much"]]}, "nnz": 5}, "give a list of pairs"),
        ({"per_layer": {"a": [[0.5, 0.1]]}}, "Give one of `sparsity`"),
    ],
)
def test_levels_that_cannot_be(words, message):
    with pytest.raises(InputError, match=re.escape(message)):
        budget_of(BudgetOptions(**words))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: as_budget(None, None), "Give either `sparsity`, .* or `budget`, .* got neither"),
        (lambda: as_budget("2:4", 0.9), "got both"),
        (lambda: as_budget(0.9, None), "`budget` is 0.9; give a budget such as chita.Sparsity"),
        (lambda: as_budget(None, 1.0), "`sparsity` is 1.0"),
        (lambda: Flops(0.3, weights=0.8), "`weights` is 0.8; give a Sparsity, Nonzeros"),
        (lambda: Searched(0.8), "`total` is 0.8; give a Sparsity, Nonzeros, Megabytes or Flops"),
        (lambda: Searched(Sparsity(0.8), levels=[1]), r"`levels` is \[1\]; give a dict"),
        (lambda: Quotas([0.5]), r"`levels` is \[0.5\]; give a dict of shares"),
        (lambda: PerLayer(0.8, distribution="erq"), "`distribution` is 'erq'; .* mean erk"),
        (lambda: ByOutliers(0.8, spread=0.6), "`spread` is 0.6; give a number from 0 to 0.5"),
    ],
)
def test_what_is_no_budget(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_files_of_levels(tmp_path):
    file = tmp_path / "levels.csv"
    file.write_text("tensor,sparsity\na,0.5\nb,0.75\n")
    assert budget_of(BudgetOptions(per_layer=str(file))) == Quotas({"a": 0.5, "b": 0.75})
    file.write_text("tensor,sparsity,loss\na,0,0\na,0.5,0.1\nb*,0.9,2\n")
    assert read_levels(file) == LEVELS
    assert parse_budget(f"per_layer={file} & nnz=5") == Searched(Nonzeros(5), levels=LEVELS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tensor,share\na,0.5\n", "must have the columns tensor and sparsity"),
        ("tensor,sparsity\na,much\n", "with a number in each line"),
        ("tensor,sparsity\na,0.5\na,0.6\n", "a stands in two lines"),
        ("tensor,sparsity\n", "lists no tensor"),
        ("tensor,sparsity\na,1.5\n", "a: `sparsity` is 1.5"),
    ],
)
def test_files_that_hold_no_levels(tmp_path, text, message):
    file = tmp_path / "levels.csv"
    file.write_text(text)
    with pytest.raises(InputError, match=message):
        budget_of(BudgetOptions(per_layer=str(file)))


@pytest.mark.parametrize("kind", [Sparsity, Nonzeros, Megabytes, Flops, Blocks, PerOutput, Quotas])
def test_what_a_budget_cannot_do_without_has_no_default(kind):
    with pytest.raises(TypeError, match=r"missing .* required"):
        kind()
