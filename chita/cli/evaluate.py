"""`chita evaluate`: how good a network is, and how sparse."""

from __future__ import annotations

import torch

from chita.cli.feedback import stdout
from chita.cli.requests import EvaluateRequest
from chita.cli.session import open_session
from chita.errors import InputError
from chita.metrics import is_accuracy
from chita.models.targets import decide
from chita.progress.lines import say


def evaluate(request: EvaluateRequest) -> None:
    """Measure a network, count its zeros, and show both."""
    named = request.network
    session = open_session(request)
    if session.evaluation is None:
        raise InputError(f"There are no evaluation data for {named.model}. Name them with `data`.")
    score = None if session.count == 0 else session.measured(session.network)
    scripted = isinstance(session.network, torch.jit.ScriptModule)
    decisions = () if scripted else decide(session.network)
    decided = [d.role.parameter for d in decisions if d.pruned]
    plain = [weight.to_dense() for weight in decided if weight is not None]  # others are computed
    nnz = sum(int(torch.count_nonzero(weight)) for weight in plain)
    prunable = sum(weight.numel() for weight in plain)
    found = {
        "accuracy": score.value if score and is_accuracy(score.metric) else None,
        "metric": score and score.metric,
        "value": score and score.value,
        "evaluated": score and score.samples,
        "evaluated_of": score and score.of,
        "nnz": None if scripted else nnz,
        "prunable": None if scripted else prunable,
    }
    zeros = f"{nnz:,} of {prunable:,} prunable weights are not zero"
    if scripted:
        zeros = "zeros are not counted in TorchScript, which does not tell what weights are of"
    line = f"{named.model}: {score or 'nothing was measured'}; {zeros}"
    request.report.show(found, lambda: say(stdout, line))
