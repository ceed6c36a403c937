"""The largest sparsity that loses little enough: trials, limits, their measure, going on."""

import math

import pytest
import torch
from torch import nn

import chita
from chita.data.digits import digits as read_digits
from chita.losses import Measure
from chita.pruning.max_loss import _lost
from tests.pruning.cases import GIVEN

ASKED = chita.MaxLoss(2.0)
OPTIONS = {"budget": ASKED, "fisher": chita.Fisher(samples=100), **GIVEN}


def digits():
    return chita.load_model("digits-mlp"), read_digits()[0]


@pytest.fixture(scope="module")
def searched():
    model, data = digits()
    return model, data, chita.prune(model, data, **OPTIONS)


def test_the_end_is_borne_and_what_is_a_little_sparser_is_not(searched):
    _, _, result = searched
    search = result.record.search
    borne = [t.sparsity for t in search.trials if t.lost <= 2.0]
    refused = [t.sparsity for t in search.trials if t.lost > 2.0]
    best = max(borne)
    assert result.record.sparsity == pytest.approx(best, abs=1e-4)
    assert any(best < s and (1 - best) / (1 - s) <= 1.0501 for s in refused)
    assert (search.unit, search.max_loss) == ("points", 2.0)


def test_it_is_the_network_that_its_sparsity_gives_to_the_bit(searched):
    model, data, result = searched
    best = max(t.sparsity for t in result.record.search.trials if t.lost <= 2.0)
    budget, validation = chita.Sparsity(best), result.record.validation
    alone = chita.prune(model, data, **{**OPTIONS, "budget": budget, "validation": validation})
    for name, mask in alone.masks.items():
        assert torch.equal(mask, result.masks[name])
        assert torch.equal(alone.model.get_parameter(name), result.model.get_parameter(name))


def test_a_sharing_of_the_sparsity_is_searched_too():
    model, data = digits()
    budget = chita.MaxLoss(5.0, like=chita.PerOutput(0.5))
    result = chita.prune(model, data, budget=budget, solver="magnitude")
    for mask in result.masks.values():
        kept = mask.flatten(1).sum(1)
        assert len(set(kept.tolist())) == 1


def test_where_nothing_is_borne_nothing_is_removed():
    model = nn.Linear(4, 2, bias=False)
    x = torch.randn(400, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -1, 1, 1], [1, 1, -1, 1]]))
        data = (x, model(x) + 1e-6)
    budget = chita.MaxLoss(0.01)
    result = chita.prune(model, data, budget=budget, solver="magnitude", loss="mse")
    assert result.record.nnz == 8
    assert torch.equal(result.model.weight, model.weight)
    assert all(t.lost > 0.01 for t in result.record.search.trials)


def test_gradients_are_collected_once(monkeypatch):
    from chita.pruning import calibration  # noqa: PLC0415

    counted, collect = [], calibration.collect_gradients

    def watched(*args, **kwargs):
        counted.append(0)
        return collect(*args, **kwargs)

    monkeypatch.setattr(calibration, "collect_gradients", watched)
    model, data = digits()
    result = chita.prune(model, data, **OPTIONS)
    assert len(result.record.search.trials) > 3
    assert len(counted) == 1


class Stop(Exception):
    """The power is cut."""


def test_a_search_that_is_killed_goes_on_to_the_same_bits(searched, tmp_path, monkeypatch):
    model, data, whole = searched
    from chita.solvers import BSO  # noqa: PLC0415

    solves, solve = [], BSO.solve

    def failing(self, *args, **kwargs):
        if len(solves) == 3:
            raise Stop
        solves.append(0)
        return solve(self, *args, **kwargs)

    file = tmp_path / "unfinished"
    with monkeypatch.context() as patch:
        patch.setattr(BSO, "solve", failing)
        with pytest.raises(Stop):
            chita.prune(model, data, checkpoint=file, **OPTIONS)
    monkeypatch.setattr(BSO, "solve", lambda s, *a, **k: solves.append(0) or solve(s, *a, **k))
    again = chita.prune(model, data, checkpoint=chita.Checkpoint(file, resume=True), **OPTIONS)
    assert len(solves) == len(whole.record.search.trials) == len(again.record.search.trials)
    assert not file.exists()
    for name, mask in whole.masks.items():
        assert torch.equal(mask, again.masks[name])
        assert torch.equal(whole.model.get_parameter(name), again.model.get_parameter(name))


def test_in_place_the_network_itself_is_changed():
    model, data = digits()
    kept = chita.prune(model, data, budget=ASKED, solver="magnitude")
    changed = chita.prune(model, data, budget=ASKED, solver="magnitude", inplace=True)
    assert changed.model is model
    for name, weights in kept.model.named_parameters():
        assert torch.equal(weights, model.get_parameter(name))


def test_what_is_lost_is_in_points_or_per_cent():
    def measures(name, values, *, log=False):
        return [
            Measure(name=name, total=v * c, count=c, log=log)
            for v, c in zip(values, (10, 20), strict=True)
        ]

    accuracy = "top-1 accuracy, per cent"
    lost, error = _lost(measures(accuracy, (90, 80)), measures(accuracy, (88, 75)))
    assert lost == pytest.approx((90 * 10 + 80 * 20 - 88 * 10 - 75 * 20) / 30)
    assert error == pytest.approx(math.sqrt(((-2 + 3.5) ** 2 + (-5 + 3.5) ** 2) / 1 / 2))
    lost, _ = _lost(measures("mse", (2, 2)), measures("mse", (2, 2.3)))
    assert lost == pytest.approx(10.0)
    before, after = (measures("perplexity", v, log=True) for v in ((3, 3), (3, 3.3)))
    assert _lost(before, after)[0] == pytest.approx(100 * (math.exp(0.2) - 1))
    cut = [*after[:1], *after[1:] * 2]  # as where memory ran out in one pass
    assert math.isnan(_lost(before, cut)[1])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"training": chita.Training(epochs=8)}, "`max_loss` takes no `training`"),
        ({"validation": 0}, "`max_loss` is measured on validation samples"),
        ({"budget": "max_loss=1 & nnz=3"}, "was given with `nnz`"),
        ({"budget": "max_loss=1 & 2:4"}, "was given with `pattern`"),
        ({"budget": "max_loss=1 & search"}, "for many"),
        ({"budget": "max_loss=-1"}, "`max_loss` is -1.0; give a number above 0"),
        ({"data": None}, "give pairs"),
    ],
)
def test_what_cannot_be_asked_is_refused(options, words):
    model, data = digits()
    with pytest.raises(chita.InputError, match=words):
        chita.prune(model, **{"data": data, "budget": ASKED, "solver": "magnitude", **options})
    with pytest.raises(chita.InputError, match="`like` is"):
        chita.MaxLoss(1.0, like=chita.NofM(2, 4))
