"""Templates of pages, in which every text is escaped."""

from __future__ import annotations

from typing import Any

from chita.reports.picture import inline_svg


def rendered(template: str, **values: Any) -> str:
    """Return a template of the folder `template` with its values; `svg(chart)` is known there."""
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - takes a while
    from markupsafe import Markup  # noqa: PLC0415

    pages = Environment(
        loader=PackageLoader("chita.reports", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return pages.get_template(template).render(svg=lambda own: Markup(inline_svg(own)), **values)
