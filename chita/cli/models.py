"""`chita models`: the table of named networks."""

from __future__ import annotations

from rich.table import Table

from chita.cli.console import stdout
from chita.models.prunable import prunable_layout
from chita.models.zoo import MODELS


def models() -> None:
    """List the named networks."""
    table = Table()
    for column in ("model", "data", "prunable weights", "about"):
        table.add_column(column)
    for name, spec in MODELS.items():
        table.add_row(name, spec.data or "", f"{prunable_layout(spec.build()).size:,}", spec.about)
    stdout.print(table)
