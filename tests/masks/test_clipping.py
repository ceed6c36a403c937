"""Removed weights count in no norm: gradients are clipped as those of the kept weights alone."""

import copy
import gc
import warnings

import lightning
import pytest
import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional
from transformers import Trainer, TrainingArguments

import chita
from chita.masks.enforce import Enforcer
from chita.masks.lightning import LightningKeepZeros
from chita.masks.trainer import TrainerKeepZeros

CLIP, RATE, PARTS = 0.1, 0.1, 2


@pytest.fixture(autouse=True)
def _warnings_of_others():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of trainers about workers and the like
        yield


def start():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 5))
    return net, chita.prune(net, solver="magnitude", sparsity=0.9, inplace=True).masks


def samples():
    generator = torch.Generator().manual_seed(1)
    return 3 * torch.randn(40, 12, generator=generator), torch.arange(40) % 5


def expected_step(net, masks, norm=nn.utils.clip_grad_norm_):
    """The step of a plain loop over two halves that masks its gradients, then clips and steps."""
    net = copy.deepcopy(net)
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    for x, y in zip(*(part.chunk(PARTS) for part in samples()), strict=True):
        (functional.cross_entropy(net(x), y) / PARTS).backward()
    for name, mask in masks.items():
        net.get_parameter(name).grad[~mask] = 0
    norm(net.parameters(), CLIP)
    optimizer.step()
    return net


def assert_same(found, expected):
    for own, other in zip(found.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("norm", [nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_])
def test_in_a_loop_that_accumulates(norm):
    net, masks = start()
    expected = expected_step(net, masks, norm)
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    Enforcer(net, masks).attach(optimizer)
    for x, y in zip(*(part.chunk(PARTS) for part in samples()), strict=True):
        (functional.cross_entropy(net(x), y) / PARTS).backward()
        assert not any(net.get_parameter(n).grad[~mask].any() for n, mask in masks.items())
    norm(net.parameters(), CLIP)
    optimizer.step()
    assert_same(net, expected)


def test_with_a_scaler_that_looks_for_infinities():
    """A removed weight whose gradient is infinite skips no step, and lowers no scale."""
    net, masks = start()
    expected = expected_step(net, masks)
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    Enforcer(net, masks).attach(optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    removed = (~masks["0.weight"]).nonzero()[0]
    overflow = torch.zeros_like(net[0].weight)
    overflow[tuple(removed)] = torch.inf
    for x, y in zip(*(part.chunk(PARTS) for part in samples()), strict=True):
        scaler.scale(functional.cross_entropy(net(x), y) / PARTS).backward()
    net[0].weight.backward(overflow)
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(net.parameters(), CLIP)
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**10
    assert_same(net, expected)


def test_in_a_loop_of_accelerate():
    net, masks = start()
    expected = expected_step(net, masks)
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=PARTS)
    prepared, optimizer = accelerator.prepare(net, torch.optim.SGD(net.parameters(), RATE))
    enforcer = Enforcer(prepared, masks)
    enforcer.attach(optimizer)
    for x, y in zip(*(part.chunk(PARTS) for part in samples()), strict=True):
        with accelerator.accumulate(prepared):
            accelerator.backward(functional.cross_entropy(prepared(x), y))
            accelerator.clip_grad_norm_(net.parameters(), CLIP)
            optimizer.step()
    assert_same(net, expected)
    assert not enforcer.refilled()


class Module(lightning.LightningModule):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def training_step(self, batch, _):
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), RATE)


@pytest.mark.parametrize("callbacks", ["held", "not held"])
def test_in_lightning_with_accumulation(tmp_path, callbacks):
    net, masks = start()
    expected = expected_step(net, masks)
    dataset = torch.utils.data.TensorDataset(*samples())
    lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        gradient_clip_val=CLIP,
        accumulate_grad_batches=PARTS,
        default_root_dir=tmp_path,
        callbacks=[LightningKeepZeros(masks, network="net")] if callbacks == "held" else [],
    ).fit(Module(net), torch.utils.data.DataLoader(dataset, batch_size=40 // PARTS))
    if callbacks == "held":
        assert_same(net, expected)
    else:  # the clipped step is less than half as long
        moved = (net[2].bias - start()[0][2].bias).norm()
        assert moved < 0.5 * (expected[2].bias - start()[0][2].bias).norm()


class WithLoss(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, labels):
        return {"loss": functional.cross_entropy(self.net(x), labels)}


def test_in_the_trainer_of_transformers_with_accumulation(tmp_path):
    net, masks = start()
    expected = expected_step(net, masks)
    x, y = samples()
    Trainer(
        model=WithLoss(net),
        args=TrainingArguments(
            output_dir=str(tmp_path),
            max_steps=1,
            per_device_train_batch_size=40 // PARTS,
            gradient_accumulation_steps=PARTS,
            max_grad_norm=CLIP,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            optim="sgd",
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            logging_strategy="no",
            dataloader_pin_memory=False,
        ),
        train_dataset=[{"x": row, "labels": label} for row, label in zip(x, y, strict=True)],
        callbacks=[TrainerKeepZeros({f"net.{name}": mask for name, mask in masks.items()})],
    ).train()
    assert_same(net, expected)


def test_a_weight_that_is_trained_only_later():
    net, masks = start()
    net[0].requires_grad_(False)
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    Enforcer(net, masks).attach(optimizer)
    assert not net[0].weight.requires_grad
    net[0].requires_grad_(True)
    functional.cross_entropy(net(samples()[0]), samples()[1]).backward()
    (group,) = optimizer.param_groups  # which holds the zeros
    gradient, mask = group["params"][0].grad, masks["0.weight"]
    assert gradient[mask].any()
    assert not gradient[~mask].any()


@pytest.mark.parametrize("how", ["detached", "forgotten"])
def test_nothing_is_masked_once_nothing_holds_the_zeros(how):
    net, masks = start()
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    enforcer = Enforcer(net, masks)
    enforcer.attach(optimizer)
    if how == "detached":
        enforcer.detach()
    else:
        del optimizer, enforcer
        gc.collect()
    functional.cross_entropy(net(samples()[0]), samples()[1]).backward()
    assert net[0].weight.grad[~masks["0.weight"]].any()
