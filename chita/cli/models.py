"""`chita models`: the table of named networks."""

from __future__ import annotations

from chita.cli.feedback import stdout
from chita.cli.requests import ModelsRequest
from chita.models.prunable import prunable_layout
from chita.models.zoo import MODELS
from chita.reports.terminal import print_table


def models(_: ModelsRequest) -> None:
    """Show the named networks."""
    columns = {"model": "left", "data": "left", "prunable weights": "right", "about": "fold"}
    rows = [
        (name, spec.data or "", f"{prunable_layout(spec.build()).size:,}", spec.about)
        for name, spec in MODELS.items()
    ]
    print_table(stdout, columns, rows)
