"""Zeros through the Trainer of Lightning."""

import warnings

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from torch import nn

from chita.errors import InputError
from chita.masks.lightning import LightningKeepZeros


class Module(lightning.LightningModule):
    def __init__(self, automatic=True):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
        self.automatic_optimization = automatic

    def training_step(self, batch, _):
        loss = self.net(batch[0]).square().mean()
        if not self.automatic_optimization:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.01)


def loader():
    return torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.randn(64, 6)), batch_size=8
    )


def fit(module, callbacks, folder, ckpt_path=None, epochs=2, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about workers, loggers and the like
        trainer = lightning.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=callbacks,
            default_root_dir=folder,
            **arguments,
        )
        trainer.fit(module, loader(), ckpt_path=ckpt_path)
    return trainer


def masks(module):
    generator = torch.Generator().manual_seed(0)
    return {
        f"{i}.weight": torch.rand(module.net[i].weight.shape, generator=generator) > 0.5
        for i in (0, 2)
    }


@pytest.mark.parametrize("automatic", [True, False])
def test_zeros_are_exact_after_fit(tmp_path, automatic):
    module = Module(automatic)
    kept = masks(module)
    before = module.net[0].weight.detach().clone()
    fit(module, [LightningKeepZeros(kept, network="net")], tmp_path)
    for name, mask in kept.items():
        assert not module.net.get_parameter(name)[~mask].any()
    assert (module.net[0].weight - before)[kept["0.weight"]].abs().min() > 0


def test_with_accumulation_clipping_bfloat16_an_average_and_a_checkpoint(tmp_path):
    module = Module()
    kept = {f"net.{name}": mask for name, mask in masks(module).items()}
    average = WeightAveraging(avg_fn=torch.optim.swa_utils.get_ema_avg_fn(0.5), use_buffers=True)
    saved = ModelCheckpoint(dirpath=tmp_path, save_last=True)
    arguments = {
        "accumulate_grad_batches": 2,
        "gradient_clip_val": 0.1,
        "precision": "bf16-mixed",
    }
    fit(module, [LightningKeepZeros(kept), average, saved], tmp_path, **arguments)
    for name, mask in kept.items():
        assert not module.get_parameter(name)[~mask].any()
    again = Module()
    last = tmp_path / "last.ckpt"
    fit(again, [LightningKeepZeros(kept), saved], tmp_path, ckpt_path=last, epochs=4)
    for name, mask in kept.items():
        assert not again.get_parameter(name)[~mask].any()


def test_without_the_callback_they_are_refilled(tmp_path):
    module = Module()
    kept = masks(module)
    with torch.no_grad():
        for name, mask in kept.items():
            module.net.get_parameter(name).mul_(mask)
    fit(module, [], tmp_path)
    assert module.net[0].weight[~kept["0.weight"]].any()


def test_names_that_do_not_fit_are_refused(tmp_path):
    module = Module()
    with pytest.raises(InputError, match=r"no 'body'. Give network= one of: net"):
        fit(module, [LightningKeepZeros(masks(module), network="body")], tmp_path)
    unknown = {f"other.{name}": mask for name, mask in masks(module).items()}
    with pytest.raises(InputError, match=r"no parameter other\."):
        fit(module, [LightningKeepZeros(unknown)], tmp_path)
