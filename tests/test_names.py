"""Names and words: each type once, no two modules of one word, a short glossary, plain prose."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from itertools import combinations
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = {path.relative_to(ROOT).as_posix(): path for path in (ROOT / "chita").rglob("*.py")}
PAGES = {
    path.relative_to(ROOT).as_posix(): path
    for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
}
SUFFIXES = ("wise", "ing", "ed", "er", "ly", "s")
BANNED = re.compile(
    r"\b(?:[Tt]ells of|[Tt]old of|[Aa]new|is none|has left|[Ww]here there is|[Nn]obody)\b"
)
ENTRIES = 30

ALIKE = {
    ("chita/cli/app", "chita/cli/apply"): "apply is a command, not an adverb",
    ("chita/models/paper/resnet20", "chita/models/paper/resnet50"): "names of two networks",
}
"""Pairs of modules that the rule takes for one word and that are not: why."""


def type_names(source):
    """The classes of a module, and its own names that are written like one: aliases of types."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            named = [target.id for target in targets if isinstance(target, ast.Name)]
            yield from (name for name in named if re.fullmatch(r"_*[A-Z]\w*[a-z]\w*", name))


def defined_twice(sources):
    """Names of types and the modules that define them, where those are several."""
    places = defaultdict(set)
    for place, source in sources.items():
        for name in type_names(source):
            places[name].add(place)
    return {name: sorted(found) for name, found in places.items() if len(found) > 1}


def stem(word):
    """A word without one ending, if three letters or more stay."""
    for suffix in SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) > 2:
            return word.removesuffix(suffix)
    return word


def of_one_word(first, second):
    """True for names whose words are forms of each other, one by one.

    Without their endings, one word begins with the other, or both begin with the same five letters.
    """
    pairs = list(zip(map(stem, first.split("_")), map(stem, second.split("_")), strict=False))
    same = (a.startswith(b) or b.startswith(a) or a[:5] == b[:5] for a, b in pairs)
    return first.count("_") == second.count("_") and all(same)


def word_forms(places):
    """Pairs of modules of one package that differ by word form."""
    packages = defaultdict(list)
    for place in places:
        folder, _, file = place.rpartition("/")
        if not file.startswith("__"):
            packages[folder].append(file.removesuffix(".py"))
    return {
        (f"{folder}/{pair[0]}", f"{folder}/{pair[1]}")
        for folder, names in packages.items()
        for pair in combinations(sorted(names), 2)
        if of_one_word(*pair)
    }


def prose(source):
    """Comments and texts of a module, each with its line: docstrings, messages, help."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def banned(text):
    """Banned phrases in a text, over the ends of its lines."""
    return BANNED.findall(" ".join(text.split()))


def entries(page):
    """The words that a glossary explains."""
    return re.findall(r"^\*\*(.+?)\*\*", page, flags=re.MULTILINE)


def test_no_type_is_defined_twice():
    assert defined_twice({place: path.read_text() for place, path in SOURCES.items()}) == {}


def test_no_modules_differ_by_word_form():
    assert word_forms(SOURCES) == set(ALIKE)


def test_the_glossary_is_short_and_in_order():
    text = (ROOT / "docs" / "glossary.md").read_text()
    found = entries(text)
    assert 20 <= len(found) <= ENTRIES
    assert found == sorted(found, key=str.lower)
    sentences = re.split(r"(?<=[.:;])\s", " ".join(text.partition("**")[2].split()))
    assert max(len(sentence.split()) for sentence in sentences) <= 27  # 25 after the word itself


def test_prose_is_plain():
    found = {place: banned(path.read_text()) for place, path in PAGES.items()}
    for place, path in SOURCES.items():
        for line, text in prose(path.read_text()):
            found[f"{place}:{line}"] = banned(text)
    assert {place: phrases for place, phrases in found.items() if phrases} == {}


def test_each_check_can_fail():
    twice = {"a.py": "class Layer: ...", "b.py": "Layer = dict[str, int]\nLIMIT = 3"}
    assert defined_twice(twice) == {"Layer": ["a.py", "b.py"]}
    assert defined_twice({"a.py": "_T = int", "b.py": "LIMIT = 3", "c.py": "LIMIT = 3"}) == {}
    for pair in [("pose", "posed"), ("gradual", "gradually"), ("layers", "layerwise")]:
        assert of_one_word(*pair)
    for pair in [("dense", "sparse"), ("layer_stage", "layers"), ("input_gram", "block_gram")]:
        assert not of_one_word(*pair)
    assert word_forms(["p/job.py", "p/jobs.py", "q/job.py"]) == {("p/job", "p/jobs")}
    assert entries("**a** is it.\n\n**b** is it.") == ["a", "b"]
    assert banned("a file that nobody\nknows, made anew") == ["nobody", "anew"]
    assert banned("it is None") == []
    assert list(prose('"""A."""\nx = "b"  # c')) == [(2, "# c"), (1, "A."), (2, "b")]
