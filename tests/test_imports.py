import importlib
import sys

import pytest

from chita.errors import InputError
from chita.imports import called, imported, is_import

SOURCE = """
VALUE = 7

def small():
    return VALUE

def needs(argument):
    return argument

def fails():
    raise KeyError("what is missing")

"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a module and a package in it that only this test sees."""
    (tmp_path / "own_module_of_test.py").write_text(SOURCE)
    (tmp_path / "own_package_of_test").mkdir()
    (tmp_path / "own_package_of_test" / "__init__.py").write_text("")
    (tmp_path / "own_package_of_test" / "nets.py").write_text("def big():\n    return 'big'\n")
    (tmp_path / "own_broken_of_test.py").write_text("import absent_package_of_test\n")
    (tmp_path / "own_syntax_of_test.py").write_text("def (:\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in [name for name in sys.modules if "_of_test" in name]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nets:small", True),
        ("my.own.nets:small", True),
        ("digits-mlp", False),
        ("nets", False),
        ("nets:", False),
        (":small", False),
        ("my..nets:small", False),
        (".nets:small", False),
        ("my-nets:small", False),
        ("nets:small()", False),
        ("nets:a:b", False),
        ("C:\\data", False),
        ("C:/data", False),
        ("", False),
    ],
)
def test_the_form_of_a_name(text, expected):
    assert is_import(text) is expected


def test_objects_of_the_current_folder(here):
    assert imported("own_module_of_test:VALUE") == 7
    assert imported("own_package_of_test.nets:big")() == "big"
    assert called("own_module_of_test:small") == 7


def test_objects_of_the_path_and_of_the_library(here, monkeypatch, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.syspath_prepend(here)
    monkeypatch.chdir(elsewhere)
    assert called("own_module_of_test:small") == 7
    assert imported("os.path:join")("a", "b").startswith("a")


def test_the_current_folder_is_added_once(here):
    imported("own_module_of_test:VALUE")
    imported("own_module_of_test:small")
    assert sys.path.count(str(here)) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("absent_module_of_test:f", "ModuleNotFoundError.*Run from the folder it lies in"),
        ("own_broken_of_test:f", "absent_package_of_test"),
        ("own_syntax_of_test:f", "SyntaxError"),
        ("own_module_of_test:smal", "own_module_of_test has no 'smal'. Did you mean small"),
    ],
)
def test_what_cannot_be_imported(here, text, told):
    with pytest.raises(InputError, match=told):
        imported(text)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("VALUE", "is a int; it must be a function"),
        ("needs", "fails: TypeError.*'argument'.*called without arguments"),
        ("fails", "fails: KeyError.*what is missing"),
    ],
)
def test_what_cannot_be_called(here, name, told):
    with pytest.raises(InputError, match=told):
        called(f"own_module_of_test:{name}")
