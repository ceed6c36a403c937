"""The form of torch.nn.utils.prune, to and fro."""

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from chita.errors import InputError
from chita.masks.enforce import Enforcer
from chita.masks.fit import read_masks
from chita.masks.torch_prune import from_torch_prune, to_torch_prune


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))


def test_to_and_fro_gives_the_same_network_and_masks():
    model = network()
    masks = {f"{i}.weight": torch.rand_like(model[i].weight) > 0.5 for i in (0, 2)}
    Enforcer(model, masks)
    x = torch.randn(4, 6)
    expected, state = model(x), {n: t.clone() for n, t in model.state_dict().items()}
    to_torch_prune(model, masks)
    assert prune.is_pruned(model)
    assert {"0.weight_orig", "0.weight_mask"} <= model.state_dict().keys()
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
    found = from_torch_prune(model)
    assert not prune.is_pruned(model)
    assert found.keys() == masks.keys()
    assert all(torch.equal(found[name], masks[name]) for name in masks)
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(model.state_dict()[name], state[name]) for name in state)


def test_what_torch_pruned_becomes_ours():
    model = network()
    prune.global_unstructured(
        [(model[0], "weight"), (model[2], "weight")], prune.L1Unstructured, amount=20
    )
    expected = {f"{i}.weight": model[i].weight_mask.bool() for i in (0, 2)}
    found = from_torch_prune(model)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert sum(int((model[i].weight == 0).sum()) for i in (0, 2)) == 20
    Enforcer(model, found)


def test_a_checkpoint_in_that_form_gives_its_masks(tmp_path):
    model = network()
    masks = {"0.weight": torch.rand(5, 6) > 0.5}
    to_torch_prune(model, masks)
    torch.save(model.state_dict(), tmp_path / "pruned.pt")
    assert torch.equal(read_masks(tmp_path / "pruned.pt", network())["0.weight"], masks["0.weight"])


def test_training_in_that_form_keeps_zeros_and_comes_back():
    model = network()
    masks = {"0.weight": torch.rand(5, 6) > 0.5}
    to_torch_prune(model, masks)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        model(torch.randn(4, 6)).square().sum().backward()
        optimizer.step()
    from_torch_prune(model)
    assert not model[0].weight[~masks["0.weight"]].any()


def test_tied_weights_are_masked_under_each_name():
    model = network()
    tied = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    tied[1].weight = tied[0].weight
    mask = torch.rand(4, 4) > 0.5
    Enforcer(tied, {"0.weight": mask})
    expected = tied(torch.ones(2, 4))
    to_torch_prune(tied, {"0.weight": mask})
    assert tied[0].weight_orig is tied[1].weight_orig
    torch.testing.assert_close(tied(torch.ones(2, 4)), expected)
    assert from_torch_prune(tied).keys() == {"0.weight", "1.weight"}
    with pytest.raises(InputError, match="no weight in the form"):
        from_torch_prune(model)


def test_one_parameter_with_two_masks_stays_as_it_is():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    prune.random_unstructured(model[0], "weight", 0.25)
    prune.custom_from_mask(model[1], "weight", 1 - model[0].weight_mask)
    x = torch.randn(3, 4)
    before = model(x)
    with pytest.raises(InputError, match=r"0\.weight and 1\.weight are one parameter"):
        from_torch_prune(model)
    assert torch.equal(model(x), before)
    model[1].weight_mask.copy_(model[0].weight_mask)
    before = model(x)
    found = from_torch_prune(model)
    assert torch.equal(model(x), before)
    assert model[0].weight is model[1].weight
    assert torch.equal(found["0.weight"], found["1.weight"])
