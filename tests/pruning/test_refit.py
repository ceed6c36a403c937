"""Masks that are given: refitted against dense algebra, and applied."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import prune as torch_prune

import chita
from chita.data.digits import digits
from chita.errors import CheckpointError, InputError
from chita.masks.fit import read_masks
from chita.masks.storage import save_masks
from tests.dense import DenseProblem


@pytest.fixture(scope="module")
def calibration():
    return digits()[0]


def network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 10)).double()


def random_masks(model, share=0.5):
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.rand(p.shape, generator=generator) < share
        for name, p in model.named_parameters()
        if p.ndim == 2
    }


def test_refitting_is_the_minimum_on_the_support_by_dense_algebra(calibration):
    model = network()
    masks = random_masks(model)
    inputs, targets = calibration.batch[0][:30].double(), calibration.batch[1][:30]
    result = chita.refit(
        model,
        (inputs, targets),
        masks,
        fisher=chita.Fisher(samples=30, weighting="empirical"),
        quadratic=chita.Quadratic(ridge=0.01, first_order=0.3, step_size=1),
        validation=0,
    )
    rows = []
    for i in range(30):
        model.zero_grad()
        nn.functional.cross_entropy(model(inputs[i : i + 1]), targets[i : i + 1]).backward()
        rows.append(torch.cat([model[1].weight.grad.flatten(), model[3].weight.grad.flatten()]))
    w_bar = torch.cat([model[1].weight.detach().flatten(), model[3].weight.detach().flatten()])
    dense = DenseProblem(torch.stack(rows), w_bar, 0.01, 0.3)
    support = torch.cat([m.flatten() for m in masks.values()])
    expected = dense.minimise_on(support.nonzero().squeeze(1))
    found = torch.cat([result.model[1].weight.flatten(), result.model[3].weight.flatten()])
    assert torch.allclose(found.detach(), expected, atol=1e-9)
    assert result.objective == pytest.approx(dense.value(expected), rel=1e-8)
    assert result.record.command == "refit"
    assert result.record.nnz == int(support.sum())


def test_what_has_no_mask_is_left_untouched(calibration):
    model = network().float()
    masks = {"1.weight": random_masks(model)["1.weight"]}
    result = chita.refit(model, calibration, masks, fisher=chita.Fisher(samples=30))
    assert torch.equal(result.model[3].weight, model[3].weight)
    assert not torch.equal(result.model[1].weight, model[1].weight)
    assert not result.model[1].weight[~masks["1.weight"]].any()


def test_applying_sets_zeros_and_nothing_else():
    model = network()
    masks = random_masks(model)
    result = chita.apply_masks(model, masks)
    for name, value in result.model.state_dict().items():
        dense = model.state_dict()[name]
        assert torch.equal(value, dense * masks[name] if name in masks else dense)
    assert (result.record.command, result.record.objective) == ("apply", None)
    again = chita.apply_masks(model, masks, inplace=True)
    assert again.model is model
    assert not model[1].weight[~masks["1.weight"]].any()


def test_masks_from_files_of_every_kind(tmp_path):
    model = network()
    masks = random_masks(model)
    save_masks(masks, tmp_path / "masks.safetensors")
    pruned = chita.apply_masks(model, masks).model
    save_file(pruned.state_dict(), tmp_path / "zeros.safetensors")
    chita.apply_masks(model, masks).save(tmp_path / "run")
    torched = network()
    for layer, name in ((torched[1], "1.weight"), (torched[3], "3.weight")):
        torch_prune.custom_from_mask(layer, "weight", masks[name])
    torch.save(torched.state_dict(), tmp_path / "torch.pt")
    for file in (
        "masks.safetensors",
        "zeros.safetensors",
        "run",
        "run/masks.safetensors",
        "torch.pt",
    ):
        found = read_masks(tmp_path / file, model)
        assert found.keys() == masks.keys(), file
        assert all(torch.equal(found[name], masks[name]) for name in masks), file
        by_path = chita.apply_masks(model, tmp_path / file)
        assert torch.equal(by_path.model[1].weight, pruned[1].weight)


def test_a_mask_under_a_tied_name_is_the_mask_of_both():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    mask = torch.eye(4).bool()
    result = chita.apply_masks(model, {"1.weight": mask})
    assert list(result.masks) == ["0.weight"]
    assert result.record.nnz == 4


@pytest.mark.parametrize(
    ("masks", "error", "message"),
    [
        ({"7.weight": torch.ones(2)}, InputError, "no parameter 7.weight"),
        ({"1.weight": torch.ones(2)}, InputError, "1.weight has shape"),
        ({"1.weight": torch.zeros(6, 64)}, InputError, "keep no weight"),
        ({}, CheckpointError, "no masks"),
        (3, CheckpointError, "no masks"),
        ("/nowhere", CheckpointError, "does not exist"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks, error, message):
    with pytest.raises(error, match=message):
        chita.apply_masks(network(), masks)


def test_a_network_that_has_the_zeros_already_cannot_be_refitted(calibration):
    model = network().float()
    masks = random_masks(model)
    pruned = chita.apply_masks(model, masks).model
    with pytest.raises(InputError, match="zero already"):
        chita.refit(pruned, calibration, masks, fisher=chita.Fisher(samples=20))
    with_slope = chita.refit(
        pruned,
        calibration,
        masks,
        fisher=chita.Fisher(samples=20),
        quadratic=chita.Quadratic(first_order=1.0),
    )
    assert with_slope.objective < 0


def test_zeros_are_a_mask_only_where_there_are_any(tmp_path):
    model = network()
    save_file(model.state_dict(), tmp_path / "dense.safetensors")
    with pytest.raises(CheckpointError, match="has no zero"):
        read_masks(tmp_path / "dense.safetensors", model)
    save_file({"1.weight": torch.zeros(6, 64)}, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks 3\.weight"):
        read_masks(tmp_path / "part.safetensors", model)


@pytest.mark.parametrize(
    "quadratic",
    [chita.Quadratic(), chita.Quadratic(ridge="0.1x", first_order=0, step_size=1)],
    ids=["chosen", "given"],
)
def test_refitting_the_mask_of_a_back_solve_repeats_it(calibration, quadratic):
    """On one support both are one computation, whether the quadratic is given or tuned."""
    model = chita.load_model("digits-mlp")
    solved = chita.prune(
        model,
        calibration,
        sparsity=0.9,
        solver=chita.solvers.BSO(max_supports=1),
        fisher=chita.Fisher(samples=100),
        quadratic=quadratic,
    )
    refitted = chita.refit(
        model, calibration, solved.masks, fisher=chita.Fisher(samples=100), quadratic=quadratic
    )
    assert refitted.objective == solved.objective
    assert all(
        torch.equal(a, b)
        for a, b in zip(refitted.model.parameters(), solved.model.parameters(), strict=True)
    )
