"""What `--help` shows, and `--version`."""

import re
import sys
from importlib.metadata import version
from typing import get_args, get_type_hints

import pytest
from typer.models import ArgumentInfo, OptionInfo
from typer.testing import CliRunner

from chita.cli.app import _COMMANDS, app

WIDE = {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}


def shown(*arguments):
    """What is printed, without boxes and line breaks."""
    done = CliRunner().invoke(app, arguments, env=WIDE)
    assert done.exit_code == 0, done.output
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.stdout).split())


@pytest.mark.parametrize("command", _COMMANDS, ids=lambda command: command.__name__)
def test_every_help_text_appears_whole(command):
    found = shown(command.__name__, "--help")
    hints = get_type_hints(command, include_extras=True).values()
    infos = [
        i for hint in hints for i in get_args(hint) if isinstance(i, OptionInfo | ArgumentInfo)
    ]
    assert infos or not command.__code__.co_argcount
    missing = [i.help for i in infos if " ".join(i.help.split()) not in found]
    assert not missing
    assert " ".join(command.__doc__.split()) in found


def test_the_version():
    assert shown("--version") == f"chita {version('chita')}"
    assert "--version Show the version and exit." in shown("--help").replace("<bool> ", "")
    assert "chosen together." in shown("--help")


def test_chita_alone_shows_help(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["chita"])
    done = CliRunner().invoke(app, [])
    assert (done.exit_code, done.stderr) == (2, "")
    assert "Usage: " in done.stdout
