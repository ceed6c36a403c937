"""Shows the `Fields:` of a class's docstring as a table: an extension of griffe in mkdocs.yml."""

from __future__ import annotations

import re
from typing import Any

import griffe

_FIELDS = re.compile(r"^(Class variables|Fields):(?=\n)", re.MULTILINE)


class Fields(griffe.Extension):
    """Gives the section the name under which Google's style knows it."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Rename it, in this class."""
        if cls.docstring:
            cls.docstring.value = _FIELDS.sub("Attributes:", cls.docstring.value)
