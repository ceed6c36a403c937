"""Statistics of batch norms after pruning: estimated anew, and taken unless that is worse."""

from __future__ import annotations

import math

import torch
from torch import nn

from chita.data.examples import Examples
from chita.progress import Progress
from chita.pruning.judge import Judge
from chita.pruning.samples import Sampling
from chita.records import BatchNormRecord, finite
from chita.training.batch_norm import batch_norms, recalibrate


def renew(
    network: nn.Module,
    samples: Examples,
    sampling: Sampling,
    judge: Judge | None,
    device: torch.device,
    progress: Progress,
) -> BatchNormRecord:
    """Estimate the statistics anew from samples, in place, with the loss of `sampling`.

    They are taken unless the loss on the samples held out is then higher, or not finite; always
    without a `judge`, where none are held out. The network has its weights already.

    Raises as `chita.training.batch_norm.recalibrate` does.
    """
    samples = samples.to(device)
    before = judge.loss() if judge else None
    put_back = recalibrate(network, samples, sampling.loss_for(samples.parts[0]), progress)
    after = judge.loss() if judge else None
    taken = before is None or after is None or (math.isfinite(after) and not after > before)
    if not taken:
        put_back()
    return BatchNormRecord(
        layers=len(batch_norms(network)),
        samples=len(samples),
        loss_before=finite(before),
        loss_after=finite(after),
        taken=taken,
    )
