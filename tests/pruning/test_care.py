"""What pruning must not do to a network, its buffers, its types and its names."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import parametrizations

import chita
from chita.errors import InputError, NumericalError
from chita.masks.fit import read_masks
from chita.models.prunable import prunable_layout, write_weights
from tests.program import chita as invoke


class Counting(nn.Module):
    """Counts its calls in a buffer, and renormalises its embedding whenever it is read."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(5, 4, max_norm=0.5)
        self.fc = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.fc(self.embed(x).sum(1))


@pytest.mark.parametrize("inplace", [True, False])
def test_running_a_network_leaves_its_state_alone(inplace):
    model = Counting()
    data = (torch.randint(5, (12, 3)), torch.randint(3, (12,)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    result = chita.prune(
        model, data, budget=chita.Nonzeros(5), fisher=chita.Fisher(samples=10), inplace=inplace
    )
    chita.evaluate(result.model, data)
    for name, value in result.model.state_dict().items():
        assert torch.equal(value, before[name]) == (name != "fc.weight"), name


def test_values_that_a_half_type_cannot_hold_are_refused_before_anything_is_written():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).half()
    before = [p.clone() for p in model.parameters()]
    values = torch.ones(8)
    values[-1] = 1e6
    with pytest.raises(NumericalError, match=r"too large for the type of 1\.weight"):
        write_weights(model, prunable_layout(model), values)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before, strict=True))


def test_memory_shared_without_a_tie_is_refused_and_ignored_whole():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = nn.Parameter(model[0].weight.data)
    with pytest.raises(InputError, match=r"0\.weight and 1\.weight share memory"):
        prunable_layout(model)
    with pytest.raises(InputError, match="nothing to prune"):
        prunable_layout(model, ignore="1")


def test_a_weight_that_is_another_turned_or_cut_is_refused():
    for view in (lambda w: w.t(), lambda w: w[:2]):
        model = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)])
        model[1].weight = nn.Parameter(view(model[0].weight.data))
        for options in ({"targets": "0"}, {"targets": "1"}, {"targets": "1", "inplace": True}):
            with pytest.raises(InputError, match=r"weight and \d\.weight share memory"):
                chita.prune(model, sparsity=0.5, solver="magnitude", **options)
        with pytest.raises(InputError, match="share memory"):
            chita.Enforcer(model, {"1.weight": torch.ones_like(model[1].weight)})
        assert prunable_layout(model, targets="2").names == ("2.weight",)


def pruned_and_mask():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Linear(6, 3))
    return model, chita.prune(model, sparsity=0.5, solver="magnitude")


def test_masks_from_files_of_wrapped_networks(tmp_path):
    model, result = pruned_and_mask()
    for wrapped in (
        nn.DataParallel(result.model),
        torch.compile(result.model, backend="eager"),
        torch.optim.swa_utils.AveragedModel(result.model),
    ):
        state = {name: value.contiguous() for name, value in wrapped.state_dict().items()}
        save_file(state, tmp_path / "w.safetensors")
        found = read_masks(tmp_path / "w.safetensors", model)
        assert all(torch.equal(found[name], mask) for name, mask in result.masks.items())
    prefixed = {f"module.{name}": mask for name, mask in result.masks.items()}
    assert chita.apply_masks(nn.DataParallel(model), prefixed).record.nnz == result.record.nnz


def test_a_mask_stored_under_the_other_name_of_a_tie(tmp_path):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    mask = torch.eye(4).bool()
    state = {"1.weight": mask.float(), "0.bias": torch.ones(4), "1.bias": torch.ones(4)}
    save_file(state, tmp_path / "w.safetensors")
    assert torch.equal(read_masks(tmp_path / "w.safetensors", model)["0.weight"], mask)
    with pytest.raises(InputError, match="are one parameter, but their masks differ"):
        chita.apply_masks(model, {"0.weight": mask, "1.weight": ~mask})
    same = {"0.weight": mask, "1.weight": mask}
    assert chita.apply_masks(model, same).record.nnz == 4


@pytest.mark.parametrize("mask", [None, [1, 0], torch.eye(4).to_sparse()])
def test_masks_that_are_no_tensors_of_numbers(mask):
    with pytest.raises(InputError, match="dense tensors of numbers"):
        chita.apply_masks(nn.Linear(4, 4), {"weight": mask})


def test_a_network_with_compiled_parts_is_saved_under_plain_names(tmp_path):
    plain, result = pruned_and_mask()
    plain[0] = torch.compile(plain[0], backend="eager")
    found = chita.prune(plain, sparsity=0.5, solver="magnitude")
    found.save(tmp_path / "run")
    fresh, _ = pruned_and_mask()
    fresh.load_state_dict(load_file(tmp_path / "run" / "model.safetensors"))
    assert torch.equal(fresh[0].weight, result.model[0].weight)
    assert read_masks(tmp_path / "run", fresh).keys() == result.masks.keys()


def test_a_single_number_can_be_pruned_when_named():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.scale = nn.Linear(4, 3), nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return self.scale * self.fc(x)

    data = (torch.randn(10, 4), torch.randint(3, (10,)))
    result = chita.prune(
        Scaled(),
        data,
        budget=chita.Nonzeros(5),
        fisher=chita.Fisher(samples=8),
        targets=["fc", "scale"],
    )
    assert result.masks["scale"].shape == ()
    assert result.record.prunable == 13


def test_evaluating_and_planning_a_network_with_computed_weights(tmp_path, monkeypatch):
    (tmp_path / "computed_weights.py").write_text(
        "from torch import nn\nfrom torch.nn.utils import parametrizations\n"
        "from chita.data.digits import digits\n"
        "def network():\n"
        "    hidden = parametrizations.weight_norm(nn.Linear(64, 8))\n"
        "    return nn.Sequential(nn.Flatten(), hidden, nn.Linear(8, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    own = ["--model", "computed_weights:network", "--data", "digits"]
    done = invoke("evaluate", *own)
    assert done.exit_code == 0, done.output
    assert "80 of 80 prunable weights" in done.stdout
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    found = {t.name: t.weights for t in chita.plan(model, ignore="0").tensors}
    assert (found["0.weight"], found["1.weight"]) == (0, 8)
    lazy = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))
    assert chita.plan(lazy, ignore="0").prunable == 8


def test_many_gradients_of_few_weights_need_little_memory():
    model = nn.Linear(6, 3)
    few, many = (
        chita.plan(model, fisher=chita.Fisher(samples=count)).peak_bytes for count in (10, 40_000)
    )
    assert many - few < 100e6


def test_overruled_rules_are_named_and_the_rest_of_the_misuse_is_refused():
    done = invoke("prune", "--nnz=50", "--solver=magnitude", "--targets=fc*", "--ignore=Linear")
    assert done.exit_code == 0, done.output
    assert "fc1.weight is pruned: targets fc* (over ignore Linear)" in done.stderr
    for call, message in (
        (lambda: chita.load_model(None), "give a name and the path"),
        (lambda: chita.load_model("digits-mlp", 3), "give a name and the path"),
        (lambda: chita.evaluate({"a": 1}, (torch.eye(2), torch.arange(2))), "give a torch.nn.Mod"),
        (lambda: chita.prune(nn.Linear(2, 2), (torch.eye(2).to_sparse(), torch.arange(2)),
                             budget="nnz=1", fisher=chita.Fisher(samples=2)), "sparse tensors"),
        (lambda: chita.prune(nn.Linear(2, 2).to(torch.float8_e4m3fn), budget="nnz=1",
                             solver="magnitude"), "does not compute"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            call()


def test_masks_added_to_attention_scores_may_be_infinite():
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(3, 3)

        def forward(self, x, mask):
            return (self.fc(x) + mask).softmax(1).log1p()

    mask = torch.zeros(6, 3)
    mask[:, 0] = -torch.inf
    data = ((torch.randn(6, 3), mask), torch.ones(6).long())
    found = chita.prune(Masked(), data, budget=chita.Nonzeros(4), fisher=chita.Fisher(samples=4))
    assert found.record.nnz == 4


def test_masks_are_applied_without_the_data_that_belong_to_the_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where no MNIST is
    model = chita.models.zoo.MODELS["mlpnet"].build()
    save_file(model.state_dict(), "w.safetensors")
    chita.prune(model, sparsity=0.5, solver="magnitude").save("run")
    own = ["--model", "mlpnet", "--weights", "w.safetensors"]
    for arguments in (["apply", "--mask", "run", *own], ["plan", *own]):
        assert invoke(*arguments).exit_code == 0
    assert invoke("prune", "--nnz", "50", *own).exit_code == 2
