"""The output of `--help` and `--version`."""

import re
import subprocess
import sys
from importlib.metadata import version

import pytest

from chita.cli.app import COMMANDS, main
from chita.cli.generated import MOST_USED, flagged
from chita.exports.table import KINDS
from chita.pruning.sensitivity import SPARSITIES
from chita.runtimes.table import RUNTIMES
from chita.settings import leaves
from tests.program import chita as invoke


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    for name, value in {"COLUMNS": "200", "TERM": "dumb", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)


def shown(*arguments):
    """What is printed, without boxes and line breaks."""
    done = invoke(*arguments)
    assert done.exit_code == 0, done.output
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", done.stdout).split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_text_appears_whole(command):
    found = shown(command, "--help")
    kind = COMMANDS[command]
    own = [leaf for leaf in leaves(kind) if leaf.group.part.shown]
    texts = [" ".join(flagged(leaf.entry.told, kind).split()) for leaf in own]
    assert [text for text in texts if text not in found] == []
    assert [leaf.flag for leaf in own if leaf.flag not in found] == []
    assert " ".join(kind.__doc__.split()) in found
    assert "`" not in found  # names of options are written as flags
    for leaf in own:
        assert ("[required]" in found) or not leaf.entry.required


def test_the_most_used_options_come_first_and_groups_are_panels():
    panels = re.findall(r"╭─ ([\w ]+) ─", invoke("prune", "--help").stdout)
    groups = dict.fromkeys(leaf.group.name for leaf in leaves(COMMANDS["prune"]))
    assert panels == ["most used", *groups]
    first = invoke("prune", "--help").stdout.partition("╭─ network ─")[0]
    assert re.findall(r"│ --([\w-]+)", first) == [*MOST_USED]


def test_what_must_be_given_is_in_the_first_line():
    assert "Usage: chita export RUN --to TEXT --out PATH [OPTIONS] " in shown("export", "--help")
    assert "Usage: chita solvers [OPTIONS] List" in shown("solvers", "--help")


def test_words_that_other_tables_hold():
    assert all(kind in shown("export", "--help") for kind in KINDS)
    assert all(runtime in shown("benchmark", "--help") for runtime in RUNTIMES)
    usual = ",".join(map(str, SPARSITIES))
    assert f"[default: {usual}]" in shown("sensitivity", "--help")


def test_values_and_defaults_in_words():
    pruning = shown("prune", "--help")
    assert "--schedule NAME|S1,S2,... " in pruning
    assert "--image-mean N,N,N " in pruning
    assert "[default: the current folder]" in pruning
    local = shown("solvers", "local-search")
    assert "│ solver" not in local
    assert " solver TEXT bso Solver whose result" in local


def test_names_in_messages_are_flags_only_in_backticks():
    kind = COMMANDS["prune"]
    told = "cbs's option seed is -1; lower `seed` or `fisher`"
    assert flagged(told, kind) == "cbs's option seed is -1; lower --seed or `fisher`"


def test_the_version():
    assert shown("--version") == f"chita {version('chita')}"
    assert "--version" in shown("--help")
    assert "chosen together." in shown("--help")


def test_chita_alone_shows_help(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["chita"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    done = invoke()
    assert (done.exit_code, done.stderr) == (2, "")
    assert "Usage: chita COMMAND" in done.stdout


LOADED = """
import sys
from chita.cli.app import main
try:
    main(sys.argv[1:])
finally:
    print([name for name in ("torch", "numpy", "pydantic", "scipy") if name in sys.modules])
"""


@pytest.mark.parametrize("arguments", [(), ("--version",), ("--help",), ("prune", "--nnz", "0")])
def test_nothing_heavy_is_imported_for_few_words(arguments):
    assert imported(*arguments) == "[]"


def test_no_help_imports_torch():
    """All commands in one process, which would keep what any of them imported."""
    code = LOADED.replace("    main(sys.argv[1:])", ALL)
    assert imported(code=code) == "[]"


ALL = """
    from chita.cli.app import COMMANDS
    for command in COMMANDS:
        try:
            main([command, "--help"])
        except SystemExit as ended:
            assert ended.code == 0
"""


def imported(*arguments, code=LOADED):
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()[-1]
