"""`chita evaluate`: how good a network is, and how sparse."""

from __future__ import annotations

import json

from chita.cli import options as opt
from chita.cli.console import ConsoleProgress, stdout
from chita.cli.settings import PruneSettings
from chita.data.sets import load_dataset
from chita.models.prunable import prunable_layout, read_weights
from chita.models.zoo import MODELS
from chita.training.evaluate import METRIC, accuracy


def evaluate(
    model: opt.Model = None,
    weights: opt.Weights = None,
    allow_pickle: opt.AllowPickle = None,
    data: opt.Data = None,
    data_dir: opt.DataDir = None,
    device: opt.Device = None,
    as_json: opt.Json = False,
) -> None:
    """Measure a network on its evaluation data, and count its zeros."""
    target = opt.usable_device(device or "cpu")
    name = model or PruneSettings().model
    network, _ = opt.load_network(name, weights, allow_pickle=bool(allow_pickle), device=target)
    _, evaluation = load_dataset(data or MODELS[name].data, data_dir)
    value = accuracy(network, evaluation.to(target), progress=ConsoleProgress())
    flat = read_weights(network, prunable_layout(network))
    nnz = int(flat.count_nonzero())
    if as_json:
        print(json.dumps({"accuracy": value, "metric": METRIC, "nnz": nnz, "prunable": len(flat)}))
    else:
        stdout.print(
            f"{name}: {METRIC} {value:.2f}; {nnz:,} of {len(flat):,} prunable weights are not zero",
            highlight=False,
        )
