"""Pages of the documentation as what they are made of: blocks that run, in order, in one folder.

    ```sh      commands: `chita ...`, `python FILE.py` and `cd FOLDER`; one whose comment says "exit
               code N" must end with it
    ```python  one namespace for the page; a first line `# NAME.py` saves it under that name, too
    ```toml    saved under the name in its first line, `# NAME.toml`
    ```text    what the block before it prints: these lines are among those, where numbers with a
               point, and all in rows of a table, may differ as those of another machine do

A line `--8<-- "FILE"` stands for that file of the repository, in a block of {.python}, which ruff
leaves alone. What cannot run here says so right above the block: `<!-- not run: WHY -->`;
`<!-- needs data -->` is for commands on the folder DATA, which without CHITA_DATA must end with the
message that there is none; `<!-- slow -->` blocks are run by `make test-all` alone.
"""

import contextlib
import io
import os
import re
import runpy
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from tests.program import chita

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = {str(path.relative_to(DOCS)): path for path in sorted(DOCS.rglob("*.md"))}
RENAMED_BY_TRANSFORMERS = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"  # which peft asks for
)
_BLOCK = re.compile(
    r"(?:^<!-- (?P<note>(?:not run|needs data|slow)[^\n]*?) -->\n\n?)?"
    r"^```(?P<language>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_SNIPPET = re.compile(r'^--8<-- "(.*)"$', re.MULTILINE)
_NAMED = re.compile(r"# ([\w.]+\.(?:py|toml))\n")
_FIGURE = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text with files put in, and what stands above it."""

    language: str
    text: str
    note: str = ""

    @property
    def skipped(self):
        return self.note.startswith("not run")

    @property
    def commands(self):
        """The lines of a block of commands, those put together that a backslash parts."""
        return self.text.replace("\\\n", " ").splitlines()


def blocks_of(text):
    """The blocks of a page, in order."""
    return [
        Block(
            match["language"].strip("{.}"),
            _SNIPPET.sub(lambda m: (ROOT / m[1]).read_text(), match["text"]),
            match["note"] or "",
        )
        for match in _BLOCK.finditer(text)
    ]


def prose_of(text):
    """A page without its blocks and its comments."""
    return re.sub(r"<!--.*?-->", "", _BLOCK.sub("", text), flags=re.DOTALL)


class Reader:
    """Somebody who follows a page to the letter; `patient`, also what lasts."""

    def __init__(self, *, patient=False):
        self.patient = patient
        self.names = sys.modules.setdefault("page", ModuleType("page")).__dict__
        self.printed = None  # nothing that could be compared

    def follow(self, block):
        """Do what a block says."""
        if block.skipped or (block.note == "slow" and not self.patient):
            self.printed = None
            return
        named = _NAMED.match(block.text)
        if named:
            Path(named[1]).write_text(block.text)
        if block.language == "text":
            if self.printed is not None:
                self.compare(block.text)
        elif block.language == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(block.text, "a block of the page", "exec"), self.names)
            self.printed = out.getvalue()
        elif block.language == "toml":
            assert named, "a block of toml needs a name: # NAME.toml"
        else:
            self.printed = ""
            for command in block.commands:
                self.printed += self.run(command, needs_data=block.note == "needs data")
            if block.note == "needs data" and "CHITA_DATA" not in os.environ:
                self.printed = None

    def run(self, command, *, needs_data=False):
        """What a command prints."""
        program, *arguments = shlex.split(command, comments=True) or ["#"]
        if program == "cd":
            os.chdir(arguments[0])
        elif program == "python":
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                runpy.run_path(arguments[0], run_name="__main__")
            return out.getvalue()
        elif program == "chita":
            done = chita(*arguments)
            told = re.search(r"#.*exit code (\d)", command)
            expected = int(told[1]) if told else 0
            if needs_data and "CHITA_DATA" not in os.environ:
                expected = 2
                assert "DATA" in done.output, done.output
            assert done.exit_code == expected, (command, done.output)
            return done.output if expected else done.stdout
        else:
            assert program == "#", f"{command!r} has no way to run here: mark it, with the reason"
        return ""

    def compare(self, shown):
        """That lines shown are among those printed, with figures like these."""
        found = [plain(line) for line in self.printed.splitlines()]
        for line in shown.splitlines():
            text, figures = plain(line)
            same = [values for other, values in found if other == text]
            assert any(alike(figures, values, "│" in line) for values in same), (line, self.printed)


def plain(line):
    """A line without its numbers, and these."""
    text = re.sub(r"[\s─━]+", " ", _FIGURE.sub("#", line)).strip()
    return text, _FIGURE.findall(line)


def alike(shown, printed, in_table):
    """Whether numbers are equal, or where they may differ, by 3 (points) or a fifth at most."""
    for one, other in zip(shown, printed, strict=True):
        a, b = (float(value.replace(",", "")) for value in (one, other))
        free = in_table or "." in one
        if abs(a - b) > (max(3, 0.2 * abs(b)) if free else 0):
            return False
    return True


@contextlib.contextmanager
def in_folder(folder):
    """Work in a folder, with its modules, and forget them at the end."""
    before, paths, modules = Path.cwd(), [*sys.path], set(sys.modules) - {"page"}
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = paths
        for name in set(sys.modules) - modules:
            file = str(getattr(sys.modules[name], "__file__", None))
            if name == "page" or file.startswith(str(folder)):
                del sys.modules[name]
