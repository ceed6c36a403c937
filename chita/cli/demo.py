"""`chita demo`: the shipped networks, pruned by magnitude and by chita, at once and in stages."""

from __future__ import annotations

import time
from typing import Any

from rich.table import Table

from chita.cli import options as opt
from chita.cli.console import stdout
from chita.cli.feedback import Feedback, LogFormat
from chita.data.digits import digits
from chita.models.zoo import MODELS, load_model
from chita.progress import track
from chita.pruning.network import prune as prune_network
from chita.training.evaluate import evaluate

_SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98)
_WAYS: dict[str, dict[str, Any]] = {  # name in the table to settings
    "magnitude": {"method": "magnitude"},
    "chita": {},
    "chita, staged": {"stages": 10, "rows": 500},
}


def demo(quiet: opt.Quiet = False, log_format: opt.LogFormat = LogFormat.TEXT) -> None:
    """Prune the two shipped networks at five sparsities and show what is left of them."""
    began = time.perf_counter()
    table = Table(title="top-1 accuracy, per cent, by share of weights removed")
    table.caption = "evaluation split of scikit-learn's digits; staged: 10 stages of 500 rows"
    for column in ("network", "method"):
        table.add_column(column, no_wrap=True)
    for column in ("dense", *(f"{s:.0%}" for s in _SPARSITIES)):
        table.add_column(column, justify="right")
    shipped = [name for name, spec in MODELS.items() if spec.bundled]
    feedback = Feedback(quiet=quiet, log_format=log_format)
    progress = feedback.progress()
    for name in shipped:
        model, _ = load_model(name)
        calibration, evaluation = digits()
        dense = f"{evaluate(model, evaluation).value:.2f}"
        for method, settings in _WAYS.items():
            row = []
            with track(progress, f"{name}, {method}", len(_SPARSITIES), "prunings"):
                for sparsity in _SPARSITIES:
                    result = prune_network(model, calibration, sparsity=sparsity, **settings)
                    row.append(f"{evaluate(result.model, evaluation).value:.2f}")
                    progress.advance(1)
            table.add_row(name, method, dense, *row)
        table.add_section()
    stdout.print(table)
    feedback.notice(f"{time.perf_counter() - began:.1f} s in all")
