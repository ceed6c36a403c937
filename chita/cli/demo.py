"""`chita demo`: the shipped networks, pruned by magnitude and by chita, at once and in stages."""

from __future__ import annotations

import time
from typing import Any

from chita.cli.feedback import stdout
from chita.cli.requests import DemoRequest
from chita.data.digits import digits
from chita.models.zoo import MODELS, load_model
from chita.progress import track
from chita.pruning.api import prune as prune_network
from chita.pruning.config import Fisher
from chita.reports.terminal import print_table
from chita.training.evaluate import evaluate

_SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98)
_WAYS: dict[str, dict[str, Any]] = {  # name in the table to arguments of `chita.prune`
    "magnitude": {"solver": "magnitude"},
    "chita": {},
    "chita, staged": {"stages": 10, "fisher": Fisher(samples=500)},
}


def demo(request: DemoRequest) -> None:
    """Prune, measure, and show a table."""
    began = time.perf_counter()
    feedback = request.report.feedback
    progress = feedback.progress()
    columns = {"network": "left", "solver": "left", "dense": "right"}
    columns |= {f"{sparsity:.0%}": "right" for sparsity in _SPARSITIES}
    rows = []
    for name in (name for name, spec in MODELS.items() if spec.bundled):
        model = load_model(name)
        calibration, evaluation = digits()
        dense = f"{evaluate(model, evaluation).value:.2f}"
        for way, arguments in _WAYS.items():
            row = [name, way, dense]
            with track(progress, f"{name}, {way}", len(_SPARSITIES), "prunings"):
                for sparsity in _SPARSITIES:
                    result = prune_network(model, calibration, sparsity=sparsity, **arguments)
                    row.append(f"{evaluate(result.model, evaluation).value:.2f}")
                    progress.advance(1)
            rows.append(row)
    title = "top-1 accuracy, per cent, by share of weights removed"
    caption = "evaluation split of scikit-learn's digits; staged: 10 stages of 500 samples"
    sections = range(len(_WAYS) - 1, len(rows), len(_WAYS))  # the last row of each network
    print_table(stdout, columns, rows, sections=sections, title=title, caption=caption)
    feedback.notice(f"{time.perf_counter() - began:.1f} s in all")
