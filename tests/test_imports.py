import importlib
import sys
from importlib.metadata import PackageNotFoundError

import pytest
import torch
from torch import nn

import chita
from chita.data.batches import batches_of
from chita.errors import InputError
from chita.imports import called, imported, install, is_import

SOURCE = """
import json, torch
VALUE = 7

def small():
    return VALUE

def needs(argument):
    return argument

def fails():
    raise KeyError("what is missing")

def deep():
    return torch.nn.Linear(*small)

class Loader:
    def __iter__(self):
        raise OSError("no such disk")

def loss(model, batch):
    return json.loads("{")
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with a module and a package in it that only this test sees."""
    (tmp_path / "own_module_of_test.py").write_text(SOURCE)
    (tmp_path / "own_package_of_test").mkdir()
    (tmp_path / "own_package_of_test" / "__init__.py").write_text("")
    (tmp_path / "own_package_of_test" / "nets.py").write_text("def big():\n    return 'big'\n")
    (tmp_path / "own_broken_of_test.py").write_text("import absent_package_of_test\n")
    (tmp_path / "own_zero_of_test.py").write_text("ONE = 1\nONE / 0\n")
    (tmp_path / "own_syntax_of_test.py").write_text("def (:\n")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in [name for name in sys.modules if "_of_test" in name]:
        del sys.modules[name]


@pytest.mark.parametrize("absent", [False, True])
def test_what_to_install_is_what_an_extra_names(monkeypatch, absent):
    def told(name):
        if absent:
            raise PackageNotFoundError(name)
        return [
            "torch>=2.6",
            "chita[mnn]; extra == 'all'",
            "zstandard<1; extra == 'all'",
            "MNN; extra == 'mnn'",
            "zstandard<1; extra == 'mnn'",
        ]

    monkeypatch.setattr("chita.imports.requires", told)
    expected = "pip install one two" if absent else "pip install MNN 'zstandard<1'"
    assert install("all", ["one", "two"]) == expected


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
        ("own_syntax_of_test:f", r"SyntaxError.*own_syntax_of_test\.py, line 1\)\. Run"),
        ("own_zero_of_test:f", r"division by zero \(own_zero_of_test\.py, line 2\)\. Run"),
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
        ("fails", r"fails: KeyError.*what is missing' \(own_module_of_test\.py, line 12\)\.$"),
        ("deep", r"fails: TypeError.*after \* .*\(own_module_of_test\.py, line 15\)\.$"),
    ],
)
def test_what_cannot_be_called(here, name, told):
    with pytest.raises(InputError, match=told):
        called(f"own_module_of_test:{name}")


def test_failures_of_losses_and_loaders_name_their_place(here):
    loss, loader = (imported(f"own_module_of_test:{name}") for name in ("loss", "Loader"))
    data = torch.zeros(4, 2), torch.zeros(4).long()
    with pytest.raises(InputError, match=r"^The loss fails.*\(own_module_of_test\.py, line 22\)\."):
        chita.evaluate(nn.Linear(2, 3), data, loss=loss)
    with pytest.raises(InputError, match=r"no such disk \(own_module_of_test\.py, line 19\)\. "):
        list(batches_of(loader(), 2))
    with pytest.raises(InputError, match=r"fails in the network \(Linear\): Runtime.*3x3\)\. The"):
        chita.evaluate(nn.Linear(3, 3), data)  # no code of the user
