"""`chita evaluate`: how good a network is, and how sparse."""

from __future__ import annotations

import json

import torch

from chita.cli import options as opt
from chita.cli.console import stdout
from chita.cli.feedback import Feedback, LogFormat
from chita.cli.session import open_session
from chita.cli.settings import NetworkSettings, merge_settings
from chita.errors import InputError
from chita.metrics import is_accuracy
from chita.models.targets import decide


def evaluate(
    model: opt.Model = None,
    weights: opt.Weights = None,
    allow_pickle: opt.AllowPickle = None,
    data: opt.Data = None,
    data_dir: opt.DataDir = None,
    image_size: opt.ImageSize = None,
    image_mean: opt.ImageMean = None,
    image_std: opt.ImageStd = None,
    length: opt.Length = None,
    loss: opt.Loss = None,
    device: opt.Device = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    log_format: opt.LogFormat = LogFormat.TEXT,
) -> None:
    """Measure a network on its evaluation data, and count its zeros."""
    settings = merge_settings(NetworkSettings, None, locals())
    feedback = Feedback(quiet=quiet, log_format=log_format)
    session = open_session(settings, feedback=feedback)
    if session.evaluation is None:
        raise InputError(
            f"There are no evaluation data for {session.settings.model}. Give them with --data."
        )
    score = session.measured(session.network)
    decided = [d.role.parameter for d in decide(session.network) if d.pruned]
    plain = [weight for weight in decided if weight is not None]  # others are computed
    nnz = sum(int(torch.count_nonzero(weight)) for weight in plain)
    prunable = sum(weight.numel() for weight in plain)
    if as_json:
        accuracy = score.value if is_accuracy(score.metric) else None
        found = {"accuracy": accuracy, "metric": score.metric, "value": score.value}
        print(json.dumps({**found, "nnz": nnz, "prunable": prunable}))
    else:
        stdout.print(
            f"{session.settings.model}: {score}; {nnz:,} of {prunable:,} prunable weights are not "
            "zero",
            highlight=False,
            soft_wrap=True,
        )
