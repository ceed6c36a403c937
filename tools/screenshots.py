"""Make the pictures of `chita report` in README, from runs of today and the tables in reproduce/.

python tools/screenshots.py        needs Chromium; takes a few minutes
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "pictures"
sys.path.insert(0, str(ROOT))

from tests.chromium import Browser, browser  # noqa: E402

_DARK = [{"name": "prefers-color-scheme", "value": "dark"}]


def chita(*arguments: str) -> None:
    """Run a command of the program."""
    command = [sys.executable, "-m", "chita", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def taken(page: Browser, name: str) -> None:
    """Write a picture of the screen."""
    page.picture(PICTURES / f"{name}.png")
    assert page.faults == [], page.faults


def main() -> None:
    """Prune, report, and take three pictures."""
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, table, one, many = (
            str(folder / n) for n in ("digits-cnn", "sensitivity", "one.html", "many.html")
        )
        asked = ["--model", "digits-cnn", "--sparsity", "0.9", "--stages", "10"]
        asked += ["--samples", "500", "--option", "bound=true"]
        chita("prune", *asked, "--out", run)
        chita("sensitivity", "--model", "digits-cnn", "--out", table)
        chita("report", run, table, "--out", one)
        chita("report", str(ROOT / "reproduce/peers-resnet20.jsonl"), "--out", many)
        with browser(folder) as page:
            page.open(Path(one), 1280, 1000)
            page.run("document.querySelector('.run').scrollIntoView()")
            taken(page, "report-one")
            page.open(Path(many), 1280, 1000)
            taken(page, "report-many")
            page.send("Emulation.setEmulatedMedia", features=_DARK)
            page.open(Path(one), 390, 1000, phone=True)
            taken(page, "report-phone")


if __name__ == "__main__":
    main()
