"""A run that is killed while its result is measured goes on from the end of the work."""

import time

import pytest
import torch

import chita
from chita.data.digits import digits
from chita.pruning.layer_stage import LayerStage
from chita.pruning.state import CheckpointFile
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


def test_a_slow_write_waits_for_more_work_and_not_beyond_the_last_layer(tmp_path, monkeypatch):
    model, (data, _) = chita.load_model("digits-mlp"), digits()
    whole = chita.prune(model, data, **RUNS["layers"])
    writes = []
    write = CheckpointFile._write

    def slow(self, *given):
        write(self, *given)
        writes.append(given)
        time.sleep(0.1)  # a block takes less than ten times as long

    def killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("chita.pruning.state._QUICK", 0.05)
        patch.setattr(CheckpointFile, "_write", slow)
        patch.setattr(LayerStage, "end", killed)  # when all layers are done
        with pytest.raises(KeyboardInterrupt):
            chita.prune(model, data, checkpoint=tmp_path / "unfinished", **RUNS["layers"])
    assert len(writes) == 2  # after the first of the blocks, and what waited
    monkeypatch.setattr(chita.solvers.Wanda, "solve", None)
    resumed = chita.Checkpoint(tmp_path / "unfinished", resume=True)
    again = chita.prune(model, data, checkpoint=resumed, **RUNS["layers"])
    for name in whole.masks:
        assert torch.equal(whole.model.get_parameter(name), again.model.get_parameter(name))
