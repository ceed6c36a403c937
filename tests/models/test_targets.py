"""Which weights are pruned, against the rule written out plainly."""

from fnmatch import fnmatchcase

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import chita
from chita.data.digits import digits
from chita.errors import InputError
from chita.models import targets
from chita.models.prunable import prunable_layout
from chita.models.targets import decide
from tests.networks import LanguageModel


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.body = nn.ModuleDict({
            name: nn.ModuleDict({"fc": nn.Linear(4, 4), "norm": nn.LayerNorm(4)}) for name in "ab"
        })
        self.attend = nn.MultiheadAttention(4, 2)
        self.rnn = nn.LSTM(4, 3, 2, bidirectional=True)
        self.cell = nn.GRUCell(4, 3)
        self.both = nn.Bilinear(2, 3, 4)
        self.embed = nn.Embedding(5, 4)
        self.scale = nn.Parameter(torch.ones(4, 4))


WAYS = ("", "_reverse")
MATRICES = [
    *("stem.weight", "body.a.fc.weight", "body.b.fc.weight"),
    *("attend.in_proj_weight", "attend.out_proj.weight"),
    *(f"rnn.weight_{k}_l{i}{way}" for k in ("ih", "hh") for i in (0, 1) for way in WAYS),
    *("cell.weight_ih", "cell.weight_hh", "both.weight"),
]  # fmt: skip


def names(**rules):
    return set(prunable_layout(Net(), **rules).names)


def test_by_default_the_weights_of_layers_and_no_embedding():
    assert names() == set(MATRICES)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ({"targets": ["Linear"]}, {*MATRICES[1:3], "attend.out_proj.weight"}),
        ({"targets": "body"}, {"body.a.fc.weight", "body.b.fc.weight"}),
        ({"targets": ["body.a"]}, {"body.a.fc.weight"}),
        ({"targets": ["*.fc"]}, {"body.a.fc.weight", "body.b.fc.weight"}),
        ({"targets": ["body.?.fc.weight"]}, {"body.a.fc.weight", "body.b.fc.weight"}),
        ({"targets": ["re:body"]}, {"body.a.fc.weight", "body.b.fc.weight"}),
        ({"targets": [r"re:.*\.b\.fc$"]}, {"body.b.fc.weight"}),
        ({"targets": ["embed"]}, {"embed.weight"}),
        ({"targets": ["Embedding", "stem"]}, {"embed.weight", "stem.weight"}),
        ({"targets": ["scale", "stem.bias"]}, {"scale", "stem.bias"}),
        ({"ignore": ["stem"]}, set(MATRICES) - {"stem.weight"}),
        ({"ignore": ["LSTM", "re:(cell|attend)"]}, {"stem.weight", "both.weight", *MATRICES[1:3]}),
        # A name beats a pattern, a pattern a type; on equal terms ignore wins.
        ({"targets": ["body.a.fc"], "ignore": ["body*"]}, {"body.a.fc.weight"}),
        ({"targets": ["body*"], "ignore": ["Linear"]}, {"body.a.fc.weight", "body.b.fc.weight"}),
        ({"targets": ["body*", "stem"], "ignore": ["body.a.fc"]}, {MATRICES[2], "stem.weight"}),
        ({"targets": ["Linear", "stem"], "ignore": ["body.*"]}, {"stem.weight", MATRICES[4]}),
        ({"targets": ["Linear", "Conv2d"], "ignore": ["Linear"]}, {"stem.weight"}),
        # The name of a module around is a pattern.
        ({"targets": ["body.a.fc", "stem"], "ignore": ["body"]}, {MATRICES[1], "stem.weight"}),
        ({"targets": ["body", "stem"], "ignore": ["*.a.*"]}, {MATRICES[2], "stem.weight"}),
        ({"targets": ["body.a", "stem"], "ignore": ["body"]}, {"stem.weight"}),
        # Types of modules around are types.
        ({"targets": ["MultiheadAttention"]}, {MATRICES[3], MATRICES[4]}),
        ({"ignore": ["MultiheadAttention"]}, {*MATRICES} - {MATRICES[3], MATRICES[4]}),
        ({"targets": ["ModuleDict"], "ignore": ["body.b"]}, {MATRICES[1]}),
        ({"targets": ["body"], "ignore": ["body.a"]}, {"body.b.fc.weight"}),
    ],
)  # fmt: skip
def test_rules(rules, expected):
    assert names(**rules) == expected


def test_what_matches_nothing_is_an_error_that_lists_all_of_it():
    with pytest.raises(InputError) as caught:
        names(targets=["stem", "bodi", "re:x.*"], ignore=["*.gc", "Linea"])
    message = str(caught.value)
    assert "'bodi' (did you mean body" in message
    assert "'Linea' (did you mean Linear" in message
    assert "'*.gc'" in message
    assert "'re:x.*'" in message
    assert "'stem'" not in message


def test_rules_that_are_none_are_refused():
    with pytest.raises(InputError, match="no regular expression"):
        names(targets=["re:("])
    for rule in (3, nn.Linear):
        with pytest.raises(InputError, match=r"targets is .* give a list of names"):
            names(targets=rule)
    for rule in ("", "re:", 3, None, nn.Linear):
        with pytest.raises(InputError, match="give names, globs"):
            names(ignore=[rule])
    with pytest.raises(InputError, match="nothing to prune"):
        names(targets=["stem"], ignore=["stem"])


def test_every_parameter_has_one_decision_and_a_rule():
    decisions = decide(Net(), ["Linear", "stem"], ["body.b"])
    named = {decision.roles[0].name: decision for decision in decisions}
    assert set(named) == {name for name, _ in Net().named_parameters()}
    assert named["stem.weight"].rule == "targets stem"
    assert named["body.b.fc.weight"].rule == "ignore body.b"
    assert named["body.a.fc.weight"].rule == "targets Linear"
    assert named["both.weight"].rule == "no target matches"
    overruled = {d.role.name: d.rule for d in decide(Net(), ["stem"], ["Conv2d"])}
    assert overruled["stem.weight"] == "targets stem (over ignore Conv2d)"
    assert named["embed.weight"].rule == "embedding: only when targeted"
    assert named["stem.bias"].rule == "no layer's weight"
    assert {d.rule for d in decide(Net()) if d.pruned} >= {"default: LSTM", "default: Conv2d"}


def test_a_tie_to_an_embedding_is_targeted_and_ignored_under_each_name():
    model = LanguageModel()
    for rule in ("embed", "head", "head.weight", "Embedding", "Linear"):
        assert prunable_layout(model, targets=rule).names == ("head.weight",)
        with pytest.raises(InputError, match="nothing to prune"):
            prunable_layout(model, targets=rule, ignore=[rule])


def test_a_shared_module_is_known_under_both_names():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model.append(model[0])
    assert prunable_layout(model).names == ("0.weight", "1.weight")
    assert prunable_layout(model, ignore="2").names == ("1.weight",)


LAYERS = st.lists(st.sampled_from(["Linear", "Conv1d", "LayerNorm"]), min_size=1, max_size=6)
MAKE = {
    "Linear": lambda: nn.Linear(2, 3),
    "Conv1d": lambda: nn.Conv1d(2, 2, 2),
    "LayerNorm": lambda: nn.LayerNorm(3),
}


def plainly(kinds, targets, ignore):
    """The rule as the docstring of `decide` says it, for layers 0, 1, ... in one Sequential."""
    chosen = set()
    for i, kind in enumerate(kinds):

        def strength(rule, name=str(i), kind=kind):
            if rule == f"{name}.weight" or (rule == name and kind != "LayerNorm"):
                return 3
            if kind == "LayerNorm":  # reached by its parameter's full name alone
                return 0
            if any(fnmatchcase(n, rule) for n in (name, f"{name}.weight")):
                return 2
            return 1 if rule == kind else 0

        for_it = max(map(strength, targets), default=0)
        if not targets and kind != "LayerNorm":
            for_it = 0.5
        if for_it > max(map(strength, ignore), default=0):
            chosen.add(f"{i}.weight")
    return chosen


@given(LAYERS, st.data())
@settings(deadline=None, max_examples=60)
def test_targets_on_random_networks(kinds, data):
    model = nn.Sequential(*(MAKE[kind]() for kind in kinds))
    rules = st.lists(
        st.sampled_from(["Linear", "Conv1d", "*", "?.weight", "[0-2]", "0", "1", "2.weight", "3"]),
        max_size=3,
        unique=True,
    )
    targets, ignore = data.draw(rules), data.draw(rules)
    expected = plainly(kinds, targets, ignore)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        layout = prunable_layout(model, targets or None, ignore)
    except InputError as error:
        refused, layout = str(error), None
    if layout is None:
        assert "is matched by" in refused or not expected
        return
    assert set(layout.names) == expected
    # What is ignored is a guarantee: not one bit of it changes.
    result = chita.prune(
        model,
        budget=chita.Nonzeros(len(expected)),
        solver="magnitude",
        targets=targets or None,
        ignore=ignore,
    )
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, before[name]) or name in expected


def test_ignored_layers_keep_every_bit_under_every_method():
    model = chita.load_model("digits-mlp")
    for solver in ("magnitude", "bso", "iht", "chita"):
        result = chita.prune(
            model,
            digits()[0],
            sparsity=0.8,
            fisher=chita.Fisher(samples=50),
            quadratic=chita.Quadratic(ridge=0.1),
            solver=solver,
            ignore=["fc3", "re:fc1"],
        )
        assert set(result.masks) == {"fc2.weight"}
        for name, value in result.model.state_dict().items():
            assert torch.equal(value, model.state_dict()[name]) == (name != "fc2.weight")


def test_many_names_take_no_product_of_names_and_parameters(monkeypatch):
    model = nn.ModuleList([nn.Linear(2, 2) for _ in range(30)])
    names = [name for name, _ in model.named_parameters()]
    calls, match = [], targets._match
    monkeypatch.setattr(targets, "_match", lambda *a, **k: calls.append(a) or match(*a, **k))
    decided = decide(model, targets=names[::2], ignore=[*names[1::2], "3"])
    assert [d.role.name for d in decided if d.pruned] == [*names[:6:2], *names[8::2]]
    assert decided[6].rule == "ignore 3"
    assert len(calls) < 3 * len(names)


class Gated(nn.Module):
    """Its own parameters have the names that weight_norm gives to what it computes from."""

    def __init__(self):
        super().__init__()
        self.weight_g, self.weight_v = (nn.Parameter(torch.randn(4, 4)) for _ in range(2))
        self.bias_orig = nn.Parameter(torch.randn(4, 4))


def test_parameters_that_compute_others_are_told_by_what_is_there():
    names = ["weight_g", "weight_v", "bias_orig"]
    assert prunable_layout(Gated(), targets=names).names == tuple(names)
    pruned = nn.utils.prune.random_unstructured(nn.Linear(3, 3), "weight", 0.5)
    with pytest.warns(FutureWarning):
        normed = nn.utils.weight_norm(nn.Linear(3, 3))
    parametrised = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    for model, name in (
        (pruned, "weight_orig"),
        (nn.utils.prune.random_unstructured(pruned, "bias", 0.5), "bias_orig"),
        (normed, "weight_v"),
        (nn.utils.spectral_norm(nn.Linear(3, 3)), "weight_orig"),
        (parametrised, "parametrizations.weight.original1"),
    ):
        with pytest.raises(InputError, match="is computed from other parameters"):
            prunable_layout(model, targets=name)


class HalfScripted(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.jit.script(nn.Linear(4, 4)), nn.Linear(4, 2)

    def forward(self, x):
        return self.last(self.first(x))


@pytest.mark.filterwarnings("ignore")
def test_a_part_in_torchscript_is_said_and_pruned_in_place_only():
    options = {"solver": "magnitude", "sparsity": 0.5}
    (line,) = chita.prune(HalfScripted(), **options, inplace=True).record.notes
    assert "first.weight, which lie in TorchScript and hold 66.67%" in line
    with pytest.raises(InputError, match=r"no parameters first\.weight, as TorchScript"):
        chita.prune(HalfScripted(), **options, targets="first.weight")
    result = chita.prune(HalfScripted(), **options, targets="first.weight", inplace=True)
    assert int((result.model.first.weight == 0).sum()) == 8
