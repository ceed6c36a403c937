"""The site is built without a warning, asks the network for nothing, and opens from disk."""

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.page import PAGES, ROOT

pytest.importorskip("material")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; a warning ends the build."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(out)]
    built = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return out


class Asked(HTMLParser):
    """What a browser asks for when it opens a page, and what a reader may click on."""

    FETCHED = (("script", "src"), ("link", "href"), ("img", "src"), ("iframe", "src"),
               ("source", "src"), ("video", "src"), ("audio", "src"))  # fmt: skip

    def __init__(self, page):
        super().__init__()
        self.fetched, self.linked, self.names = [], [], set()
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.names.update(v for k, v in attrs if k in {"id", "name"})
        for kind, name in self.FETCHED:
            if tag == kind and attributes.get(name) and attributes.get("rel") != "canonical":
                self.fetched.append(attributes[name])
        if tag == "a" and attributes.get("href"):
            self.linked.append(attributes["href"])


def test_every_page_is_there(site):
    for name in PAGES:
        assert (site / name).with_suffix(".html").exists()
    assert re.search(r">\s*2:4\s*<", (site / "index.html").read_text())  # no number of YAML's


def test_no_page_asks_the_network_for_anything(site):
    for page in site.rglob("*.html"):
        for address in Asked(page).fetched:
            assert not urlsplit(address).scheme, (page.name, address)
            assert not address.startswith("//"), (page.name, address)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*[\"']?(https?:)?//", sheet.read_text()), sheet


def test_all_that_pages_name_is_in_the_folder(site):
    for page in site.rglob("*.html"):
        if page.name == "404.html":  # servers show it, at any depth
            continue
        found = Asked(page)
        for address in [*found.fetched, *found.linked]:
            parts = urlsplit(address)
            if parts.scheme or not parts.path:
                continue
            there = page.parent / unquote(parts.path)
            assert there.is_file(), (page.name, address)


def test_code_shown_is_the_file_itself(site):
    shown = (site / "add_a_solver.html").read_text()
    assert "--8&lt;--" not in shown
    assert "largest ½(H_jj" in re.sub(r"<[^>]+>", "", shown)
    assert Path(site / "repository" / "examples" / "own_network.py").read_text() == (
        (ROOT / "examples" / "own_network.py").read_text()
    )


def test_a_link_to_nowhere_ends_the_build(tmp_path):
    """That warnings are errors, and that a hook leaves what it does not find to them."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# One\n\n[no](../nowhere.md)\n")
    config = "site_name: x\nhooks: [{}]\nplugins: []\n".format(ROOT / "tools" / "linked_files.py")
    (tmp_path / "mkdocs.yml").write_text(config)
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 1
    assert "nowhere.md" in built.stderr
