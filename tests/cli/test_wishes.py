"""Options that people look for are answered, and those that they mistype are still guessed."""

import re

import pytest

from chita.cli.app import COMMANDS
from chita.cli.wishes import _WISHES, answer_to
from chita.settings import leaves
from chita.sparse_file.types import NARROW
from tests.docs.page import ROOT
from tests.program import chita as invoke

OWN = {name: {leaf.flag for leaf in leaves(kind)} for name, kind in COMMANDS.items()}
FLAGS = set().union(*OWN.values())


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("--latency", "--flops"),
        ("--max-latency=3", "chita benchmark"),
        ("--channels", "docs/compare.md"),
        ("--structured", "--pattern"),
        ("--bits", "chita export --to sparse --values float16"),
        ("--int8", "Nothing is quantised"),
        ("--epochs", "--training.epochs"),
        ("--lr", "--training.rate"),
        ("--num_workers", "OMP_NUM_THREADS"),
        ("--sparsty", "Did you mean --sparsity?"),
        ("--stage", "Did you mean --stages?"),
    ],
)
def test_what_is_looked_for_is_answered(flag, told):
    done = invoke("prune", "--sparsity", 0.5, flag, 3)
    assert done.exit_code == 2
    assert told in done.stderr
    assert flag.partition("=")[0] in done.stderr
    assert done.stderr.endswith("See chita prune --help.\n")


def test_every_answer_names_what_there_is():
    for answer in _WISHES.values():
        for command in re.findall(r"chita (\w+)", answer):
            assert command in COMMANDS, answer
        assert set(re.findall(r"--[a-z][\w.-]*\w", answer)) <= FLAGS, answer
        for page in re.findall(r"docs/[\w/]+\.md", answer):
            assert (ROOT / page).is_file()
    assert "float16" in NARROW


def test_no_word_is_an_option_or_is_answered_twice():
    words = " ".join(_WISHES).split()
    assert len(words) == len(set(words))
    assert not {f"--{word}" for word in words} & OWN["prune"]


def test_a_letter_too_few_is_no_wish():
    for flag in OWN["prune"]:
        for at in range(2, len(flag)):
            mistyped = flag[:at] + flag[at + 1 :]
            assert mistyped in FLAGS or answer_to(mistyped) is None, mistyped
