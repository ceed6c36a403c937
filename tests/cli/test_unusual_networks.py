"""Networks that cannot be pruned, at the command line: refused by name, and measured."""

import pytest

from tests.program import chita

MADE = """
import torch
from torch import nn

def dense():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).eval()

def scripted():
    return torch.jit.script(dense())

def sparse():
    network = dense()
    network[1].weight = nn.Parameter(network[1].weight.detach().to_sparse_csr())
    return network
"""
SIZES = {"scripted": "zeros are not counted in TorchScript", "sparse": "640 of 640"}


@pytest.fixture
def made(tmp_path, monkeypatch):
    (tmp_path / "unusual_networks.py").write_text(MADE)
    monkeypatch.syspath_prepend(tmp_path)
    return lambda name: ("--model", f"unusual_networks:{name}", "--data", "digits")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("name", "words"), [("scripted", "TorchScript"), ("sparse", "1.weight")])
def test_they_are_refused_by_name_and_measured(made, name, words):
    for command in (("prune", "--samples", 50), ("plan",)):
        done = chita(*command, "--sparsity", 0.5, *made(name))
        assert done.exit_code == 2, done.output
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    found, dense = (
        chita("evaluate", *made(kind)).stdout.split(": ", 1)[1] for kind in (name, "dense")
    )
    assert found.partition(";")[0] == dense.partition(";")[0]
    assert SIZES[name] in found
