"""Takes files of the repository that pages link to into the site: a hook of mkdocs.yml.

Pages are read in the repository, too, where `../README.md` is a link like any other. In the site such
a file lies under repository/, Markdown as a page of its own, and so do the files that this one links
to; links follow. What is not there is left as it is, for the strict build to find.
A comment that names the table from which lines were copied, `<!-- reproduce/NAME.md -->`, becomes a
link to it.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
_WITHIN, _DOCS = "repository/", "docs/"
_LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")
_SOURCE = re.compile(r"^<!-- ([\w/.-]+\.md) -->$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to, and what that links to."""
    todo = [file for file in files if file.is_documentation_page()]
    while todo:
        page = todo.pop()
        text = _with_sources(_FENCE.sub("", page.content_string), page.src_uri)
        for target in _LINK.findall(text):
            path = _target(page.src_uri, target)
            uri = _uri(path)
            if files.get_file_from_path(uri) or not (ROOT / path).is_file():
                continue
            found = File.generated(config, uri, abs_src_path=str(ROOT / path))
            files.append(found)
            if found.is_documentation_page():
                todo.append(found)
    return files


def on_page_markdown(markdown: str, page: Page, files: Files, **_: Any) -> str:
    """Lead links to where the files lie in the site."""
    here = page.file.src_uri

    def moved(link: re.Match[str]) -> str:
        uri = _uri(_target(here, link[0]))
        there = files.get_file_from_path(uri) is not None
        return posixpath.relpath(uri, posixpath.dirname(here)) if there else link[0]

    kept = _FENCE.findall(markdown)
    parts = _FENCE.split(markdown)
    texts = [_LINK.sub(moved, _with_sources(part, here)) for part in parts]
    return "".join(text + fence for text, fence in zip(texts, [*kept, ""], strict=True))


def _with_sources(text: str, uri: str) -> str:
    """The text of a page with a link for every comment that names a table."""
    up = posixpath.relpath(".", posixpath.dirname(_source(uri)) or ".")
    return _SOURCE.sub(rf"From [\1]({up}/\1):", text)


def _source(uri: str) -> str:
    """The path in the repository of a file of the site."""
    return uri.removeprefix(_WITHIN) if uri.startswith(_WITHIN) else _DOCS + uri


def _uri(path: str) -> str:
    """Where a file of the repository lies in the site."""
    return path.removeprefix(_DOCS) if path.startswith(_DOCS) else _WITHIN + path


def _target(uri: str, link: str) -> str:
    """The path in the repository that a link of a file of the site names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(_source(uri)), link))
