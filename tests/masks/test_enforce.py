"""Zeros stay zero under every optimizer of PyTorch, and whatever surrounds it."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import chita
from chita.errors import InputError
from chita.masks.enforce import Enforcer

OPTIMIZERS = {
    "SGD": {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "Adam": {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1},
    "AdamW": {"lr": 0.01},
    "NAdam": {},
    "RAdam": {},
    "Adamax": {},
    "Adagrad": {"lr": 0.1},
    "Adadelta": {},
    "ASGD": {"lr": 0.1, "t0": 0},
    "RMSprop": {"momentum": 0.9, "centered": True},
    "Rprop": {},
    "Adafactor": {},
    "LBFGS": {},
}


def network():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5), nn.Dropout(0.1)
    )


def masks_of(model, share=0.5):
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.rand(weight.shape, generator=generator) > share
        for name, weight in model.named_parameters()
        if weight.ndim > 1
    }


def held():
    """A network whose masks hold, what trains it, and what holds them."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    enforcer = Enforcer(model, masks_of(model))
    enforcer.attach(optimizer)
    return model, optimizer, enforcer


def step(model, optimizer, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 1, 4, 4, generator=generator)

    def closure():
        optimizer.zero_grad()
        loss = scale * model(x).square().sum(1).mean() - model(x).sum()
        loss.backward()
        return loss

    optimizer.step(closure)


def removed(model, masks):
    return torch.cat([model.get_parameter(name)[~mask].detach() for name, mask in masks.items()])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_zeros_stay_under_every_optimizer_and_leave_no_trace_in_its_state(name):
    model = network()
    masks = masks_of(model)
    optimizer = getattr(torch.optim, name)(model.parameters(), **OPTIMIZERS[name])
    step(model, optimizer)  # momentum of all weights, before there are masks
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    enforcer = Enforcer(model, masks)
    enforcer.attach(optimizer)
    for seed in range(4):
        step(model, optimizer, seed)
        assert not removed(model, masks).any()
        assert not enforcer.refilled()
    moved = [(model.get_parameter(n) - before[n])[m].abs().max() > 0 for n, m in masks.items()]
    assert all(moved)  # what is kept was trained
    if name in ("Rprop", "LBFGS"):  # a step size is none; a flat history of whole gradients is
        return
    for weight, mask in ((model.get_parameter(n), m) for n, m in masks.items()):
        for key, value in optimizer.state[weight].items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                assert float(value[~mask].abs().max()) < 1e-6, key  # Adamax adds a floor


def test_without_it_the_zeros_are_gone_after_one_step():
    model = network()
    masks = masks_of(model)
    Enforcer(model, masks)
    assert not removed(model, masks).any()
    step(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert removed(model, masks).all()


def test_detached_it_holds_nothing():
    model = network()
    masks = masks_of(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    enforcer = Enforcer(model, masks)
    enforcer.attach(optimizer)
    enforcer.detach()
    step(model, optimizer)
    counts = enforcer.refilled()
    assert counts == {name: int((~mask).sum()) for name, mask in masks.items()}


def test_training_is_that_of_the_masked_network():
    """The same weights as with the mask inside the forward pass, where gradients vanish by it."""
    model, other = network(), network()
    masks = masks_of(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    Enforcer(model, masks).attach(optimizer)
    for name, mask in masks.items():
        owner, _, own = name.rpartition(".")
        prune.custom_from_mask(other.get_submodule(owner), own, mask)
    theirs = torch.optim.AdamW(other.parameters(), lr=0.01)
    for module in (model, other):
        module.eval()  # no dropout
    for seed in range(5):
        step(model, optimizer, seed)
        step(other, theirs, seed)
    for name in masks:
        owner, _, own = name.rpartition(".")
        orig = getattr(other.get_submodule(owner), f"{own}_orig")
        torch.testing.assert_close(model.get_parameter(name), orig * masks[name])


def test_state_dicts_of_a_dense_network_and_its_optimizer_do_no_harm():
    dense = network()
    theirs = torch.optim.Adam(dense.parameters(), lr=0.01)
    step(dense, theirs)
    model = network()
    masks = masks_of(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    enforcer = Enforcer(model, masks)
    enforcer.attach(optimizer)
    optimizer.load_state_dict(copy.deepcopy(theirs.state_dict()))
    for weight, mask in ((model.get_parameter(n), m) for n, m in masks.items()):
        assert not optimizer.state[weight]["exp_avg"][~mask].any()
        assert optimizer.state[weight]["exp_avg"][mask].any()
    model.load_state_dict(dense.state_dict())
    assert enforcer.refilled()
    step(model, optimizer)
    assert not enforcer.refilled()


def test_state_dicts_that_replace_parameters_are_found():
    model = network()
    masks = masks_of(model)
    enforcer = Enforcer(model, masks)
    model.load_state_dict({k: v.clone() for k, v in network().state_dict().items()}, assign=True)
    assert enforcer.refilled()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    enforcer.attach(optimizer)
    step(model, optimizer)
    assert not enforcer.refilled()


def test_gradients_are_accumulated_over_backward_passes():
    model, optimizer, enforcer = held()
    for _ in range(3):
        for _ in range(4):
            model(torch.randn(2, 1, 4, 4)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not enforcer.refilled()


def test_mixed_precision_skips_a_step_and_scales_another():
    model, optimizer, enforcer = held()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**14)
    for scale in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(torch.randn(4, 1, 4, 4)).float().square().mean() * scale
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert not enforcer.refilled()
        assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


def test_gradients_that_are_no_numbers_leave_zeros():
    model, optimizer, enforcer = held()
    for weight in model.parameters():
        weight.grad = torch.full_like(weight, torch.nan)
    optimizer.step()
    assert not enforcer.refilled()


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_networks_that_change_their_type_or_the_order_of_their_memory(kind, memory):
    model = network()
    enforcer = Enforcer(model, masks_of(model))
    model.to(memory_format=memory).to(kind)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(-1.5)
    enforcer.apply()
    for name, mask in masks_of(model).items():
        expected = torch.where(mask, torch.tensor(-1.5, dtype=kind), 0)
        assert torch.equal(model.get_parameter(name), expected)


def test_a_moving_average_has_the_zeros_too_even_those_of_a_later_mask():
    model = network()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for share in (0.3, 0.6):
        masks = masks_of(model, share)
        enforcer = Enforcer(model, masks, copies=[average])
        enforcer.attach(optimizer)
        for seed in range(3):
            step(model, optimizer, seed)
            average.update_parameters(model)
            assert not removed(average.module, masks).any()
        enforcer.detach()
    kept = torch.cat([average.module.get_parameter(n)[m].detach() for n, m in masks.items()])
    assert kept.all()


def test_tied_weights_wrappers_and_compiled_networks():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(6, 6, bias=False)
            self.b = nn.Linear(6, 6, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(self.a(x).relu())

    model = nn.DataParallel(Tied())
    mask = torch.rand(6, 6) > 0.5
    enforcer = Enforcer(model, {"b.weight": mask})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    enforcer.attach(optimizer)
    model.module(torch.randn(4, 6)).square().sum().backward()
    optimizer.step()
    assert not model.module.a.weight[~mask].any()
    assert model.module.b.weight is model.module.a.weight


def test_masks_of_a_run_folder(tmp_path):
    model = chita.load_model("digits-mlp")
    chita.prune(model, solver="magnitude", sparsity=0.9, inplace=True).save(tmp_path / "run")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    enforcer = Enforcer(model, tmp_path / "run")
    enforcer.attach(optimizer)
    kept = sum(int(mask.sum()) for mask in enforcer.masks.values())
    model(torch.randn(4, 1, 8, 8)).sum().backward()
    optimizer.step()
    assert sum(int(torch.count_nonzero(model.get_parameter(n))) for n in enforcer.masks) <= kept


def test_bad_input_is_refused():
    model = network()
    masks = masks_of(model)
    with pytest.raises(InputError, match=r"no parameter 9\.weight"):
        Enforcer(model, {"9.weight": masks["0.weight"]})
    with pytest.raises(InputError, match="shape"):
        Enforcer(model, {"0.weight": masks["3.weight"]})
    with pytest.raises(InputError, match="no parameter"):
        Enforcer(model, masks, copies=[nn.Linear(2, 2)])
    other = torch.optim.SGD(network().parameters(), lr=0.1)
    with pytest.raises(InputError, match="none of the masked weights"):
        Enforcer(model, masks).attach(other)
