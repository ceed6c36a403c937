"""A run that is killed while its result is measured goes on from the end of the work."""

import pytest
import torch

import chita
from chita.data.digits import digits
from tests.pruning.cases import GIVEN

FEW = chita.Fisher(samples=60)
RUNS = {
    "stages": {**GIVEN, "fisher": FEW, "sparsity": 0.8, "stages": 2},
    "layers": {"solver": "wanda", "fisher": FEW, "sparsity": 0.5},
    "events": {
        **GIVEN,
        "fisher": FEW,
        "sparsity": 0.8,
        "training": chita.Training(epochs=2, events=1),
    },
    "search": {**GIVEN, "fisher": FEW, "budget": chita.MaxLoss(5.0)},
}


@pytest.mark.parametrize("name", RUNS)
def test_what_was_done_is_not_done_again(name, tmp_path, monkeypatch):
    model, (data, evaluation) = chita.load_model("digits-mlp"), digits()
    whole = chita.prune(model, data, evaluation=evaluation, **RUNS[name])
    file = tmp_path / "unfinished"
    from chita.pruning import api  # noqa: PLC0415

    with monkeypatch.context() as patch:
        original = api._scorer

        def interrupted(*given):
            scorer = original(*given)

            def score(network, name):
                if name == "dense":  # the end; epochs measure the network at work
                    raise KeyboardInterrupt
                return scorer(network, name)

            return score

        patch.setattr(api, "_scorer", interrupted)
        with pytest.raises(KeyboardInterrupt):
            chita.prune(model, data, evaluation=evaluation, checkpoint=file, **RUNS[name])
    assert file.exists()
    solver = type(chita.solvers.SOLVERS[RUNS[name]["solver"]]())
    monkeypatch.setattr(solver, "solve", None)
    again = chita.prune(
        model, data, evaluation=evaluation, checkpoint=chita.Checkpoint(file, resume=True),
        **RUNS[name],
    )  # fmt: skip
    assert not file.exists()
    assert again.record.pruned_metric == whole.record.pruned_metric
    for tensor, mask in whole.masks.items():
        assert torch.equal(mask, again.masks[tensor])
