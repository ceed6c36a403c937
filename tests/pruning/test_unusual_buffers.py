"""Networks with sparse, nested and quantised buffers are pruned; files name what they lack."""

import copy

import pytest
import torch
from torch import nn

import chita
from chita import nested
from chita.errors import OutputError
from chita.exports.run_folder import storable

DATA = torch.randn(60, 12, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 4
EYE = torch.eye(12)[torch.arange(12).flip(0)]
BUFFERS = {
    "coo": EYE.to_sparse,
    "csr": EYE.to_sparse_csr,
    "quantised": lambda: torch.quantize_per_tensor(EYE, 1.0, 0, torch.qint8),
    "nested": lambda: torch.nested.nested_tensor(list(EYE)),
}


class Mixing(nn.Module):
    """It mixes its inputs by a constant matrix, as networks of graphs do."""

    def __init__(self, buffer):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(12, 16), nn.Linear(16, 4)
        self.register_buffer("matrix", buffer)

    def forward(self, x):
        matrix = self.matrix
        if matrix.layout != torch.strided:
            x = (matrix @ x.mT).mT
        elif matrix.is_nested or matrix.is_quantized:
            x = x @ (torch.stack(matrix.unbind()) if matrix.is_nested else matrix.dequantize()).mT
        else:
            x = x @ matrix.mT
        return self.b(torch.tanh(self.a(x)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BUFFERS)
def test_networks_with_such_a_buffer_are_pruned_as_with_a_plain_one(name, tmp_path):
    options = {"fisher": chita.Fisher(samples=20), "solver": "bso", "inplace": True}
    options["quadratic"] = chita.Quadratic(ridge=0.02, first_order=0.0, step_size=1.0)
    for others in (
        {"sparsity": 0.5, "stages": 2, "checkpoint": tmp_path / "unfinished"},
        {"budget": chita.Flops(0.5)},
    ):
        found, expected = (
            chita.prune(Mixing(buffer), DATA, **options, **others)
            for buffer in (BUFFERS[name](), EYE)
        )
        for tensor, mask in expected.masks.items():
            assert torch.equal(found.masks[tensor], mask)
    assert chita.evaluate(found.model, DATA).value == chita.evaluate(expected.model, DATA).value


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", BUFFERS)
def test_what_a_file_cannot_hold_is_named(name):
    with pytest.raises(OutputError, match=r"matrix in the state dict is a \w+ tensor"):
        storable(Mixing(BUFFERS[name]()))


class Extra(Mixing):
    def __init__(self, state):
        super().__init__(EYE)
        self.state = state

    def get_extra_state(self):
        return self.state

    def set_extra_state(self, state):
        self.state = state


def test_extra_state_is_stored_where_it_is_a_tensor(tmp_path):
    magnitude = {"solver": "magnitude", "sparsity": 0.5}
    result = chita.prune(Extra(torch.arange(3.0)), **magnitude)
    result.save(tmp_path / "run")
    read = chita.load(tmp_path / "run")
    assert torch.equal(read["_extra_state"], torch.arange(3.0))
    for state, kind in (({"step": 1}, "dict"), (torch.ones(2, dtype=torch.complex128), "complex")):
        with pytest.raises(OutputError, match=f"_extra_state in the state dict is a {kind}"):
            chita.prune(Extra(state), **magnitude).save(tmp_path / "other")


def test_a_shared_tensor_is_copied_with_the_network_that_keeps_it():
    shared = nested.as_shared(torch.arange(3.0))
    model = nn.Linear(3, 3)
    model.last = [shared, shared]
    made = copy.deepcopy(model).last
    assert isinstance(made[0], nested.Shared)
    assert made[0] is made[1]
    assert torch.equal(made[0], shared)
    assert made[0].data_ptr() != shared.data_ptr()
