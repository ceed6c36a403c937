"""Tensors and modules that cannot be pruned are refused by name, and by all in the same words."""

import copy

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

import chita
from chita.errors import InputError

DATA = torch.randn(60, 12, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 4
FEW = chita.Fisher(samples=20)
MASKS = {"0.weight": torch.arange(192).view(16, 12) % 2 == 0}


def network(weight=None):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 4))
    if weight is not None:
        model[0].weight = nn.Parameter(weight(model[0].weight.detach()))
    return model


def fake():
    with FakeTensorMode():
        return network()


def inference(model=network):
    with torch.inference_mode():
        return model()


CALLS = {
    "prune": lambda m: chita.prune(m, DATA, sparsity=0.5, fisher=FEW),
    "in place": lambda m: chita.prune(m, DATA, sparsity=0.5, fisher=FEW, inplace=True),
    "magnitude": lambda m: chita.prune(m, sparsity=0.5, solver="magnitude"),
    "layers": lambda m: chita.prune(m, DATA, sparsity=0.5, fisher=FEW, solver="alps"),
    "plan": lambda m: chita.plan(m, DATA, sparsity=0.5),
    "sensitivity": lambda m: chita.sensitivity(m, DATA, sparsities=[0.5], fisher=FEW),
    "refit": lambda m: chita.refit(m, DATA, MASKS, fisher=FEW),
    "apply": lambda m: chita.apply_masks(m, MASKS),
    "enforcer": lambda m: chita.Enforcer(m, MASKS),
}
KINDS = {
    "csr": (
        lambda: network(torch.Tensor.to_sparse_csr),
        "0.weight has the layout torch.sparse_csr",
    ),
    "coo": (lambda: network(torch.Tensor.to_sparse), "0.weight has the layout torch.sparse_coo"),
    "bsr": (lambda: network(lambda w: w.to_sparse_bsr((4, 4))), "0.weight has the layout"),
    "complex": (lambda: network(lambda w: w.to(torch.complex64)), "0.weight is torch.complex64"),
    "meta": (lambda: network().to("meta"), "0.weight.* ha(s|ve) no values yet"),
    "fake": (fake, "0.weight.* (is|are) a FakeTensor"),
    "script": (lambda: torch.jit.script(network().eval()), "TorchScript"),
    "trace": (lambda: torch.jit.trace(network().eval(), DATA[0][:2]), "TorchScript"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_each_kind_is_refused_by_name_everywhere(kind, call):
    make, words = kind
    with pytest.raises(InputError, match=words):
        call(make())


@pytest.mark.filterwarnings("ignore")
def test_what_is_left_out_may_be_of_any_kind():
    model = network(torch.Tensor.to_sparse_csr)
    before = model[0].weight.to_dense().clone()
    found = chita.prune(
        model, sparsity=0.5, solver="magnitude", ignore=["0"], inplace=True, fisher=FEW
    )
    assert found.masks.keys() == {"2.weight"}
    assert torch.equal(model[0].weight.to_dense(), before)


@pytest.mark.filterwarnings("ignore")
def test_torchscript_is_measured_and_may_be_a_part():
    plain = network().eval()
    expected = chita.evaluate(plain, DATA)
    assert chita.evaluate(torch.jit.script(plain), DATA) == expected
    mixed = nn.Sequential(plain[0], plain[1], torch.jit.script(plain[2]))
    assert chita.prune(mixed, DATA, sparsity=0.5, fisher=FEW).masks.keys() == {"0.weight"}


@pytest.mark.filterwarnings("ignore")
def test_quantised_modules_are_named():
    pytest.importorskip("torch.ao.quantization")
    quantised = torch.ao.quantization.quantize_dynamic(network().eval(), {nn.Linear})
    with pytest.raises(InputError, match="0, 2: quantised; prune the network before"):
        chita.prune(quantised, sparsity=0.5, solver="magnitude")


WRITTEN = {
    "inference": (inference, "0.weight.*: made under torch.inference_mode"),
    "expanded": (lambda: network(lambda w: w[:1].expand(16, 12)), "0.weight: several entries"),
    "shifted": (lambda: network(lambda w: w.flatten().as_strided((16, 12), (1, 1))), "several"),
}


def shared(of):
    model = network()
    model[2].weight = nn.Parameter(of(model[0].weight.detach()))
    return model


SHARED = {
    "part": lambda w: w.flatten()[:64].view(4, 16),
    "turned": lambda w: w.T[:4],
    "every other": lambda w: w.flatten()[::3].view(4, 16),
}


@pytest.mark.parametrize("kind", WRITTEN.values(), ids=WRITTEN)
def test_what_cannot_be_written_is_refused_in_place_and_pruned_as_a_copy(kind):
    make, words = kind
    for call in (
        CALLS["in place"],
        lambda m: chita.apply_masks(m, MASKS, inplace=True),
        lambda m: chita.refit(m, DATA, MASKS, fisher=FEW, inplace=True),
    ):
        with pytest.raises(InputError, match=words):
            call(make())
    found, masks = CALLS["magnitude"](make()), chita.apply_masks(make(), MASKS).masks
    assert found.record.nnz == found.record.prunable // 2
    assert torch.equal(masks["0.weight"], MASKS["0.weight"])
    assert not found.model[0].weight[~found.masks["0.weight"]].any()


@pytest.mark.parametrize("of", SHARED.values(), ids=SHARED)
def test_weights_that_share_memory_are_refused(of):
    """In a copy each would become a weight of its own, without a word."""
    for call in ("in place", "magnitude"):
        with pytest.raises(InputError, match=r"0\.weight and 2\.weight|2\.weight and 0\.weight"):
            CALLS[call](shared(of))


def test_columns_of_one_matrix_share_nothing():
    whole = torch.randn(16, 24)
    model = nn.Sequential(nn.Linear(12, 16), nn.Linear(12, 16))
    for layer, part in zip(model, whole.split(12, dim=1), strict=True):
        layer.weight = nn.Parameter(part)
    assert chita.prune(model, sparsity=0.5, solver="magnitude", inplace=True).record.nnz == 192


def test_statistics_made_in_inference_mode_matter_only_where_they_are_written():
    def model():
        made = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.Linear(16, 4))
        with torch.inference_mode():
            made[1].running_mean = torch.zeros(16)
        return made

    with pytest.raises(InputError, match=r"1\.running_mean: made under"):
        CALLS["in place"](model())
    chita.prune(model(), sparsity=0.5, solver="magnitude", inplace=True)
    chita.apply_masks(model(), MASKS, inplace=True)


def test_an_enforcer_refuses_entries_in_one_place():
    model = network(lambda w: w[:1].expand(16, 12))
    with pytest.raises(InputError, match=r"0\.weight: several entries"):
        chita.Enforcer(model, MASKS)
    assert not chita.Enforcer(copy.deepcopy(model), MASKS).refilled()


def test_an_export_names_sparse_weights(tmp_path):
    model = network(lambda w: w.relu().to_sparse())
    with pytest.raises(InputError, match=r"sparse, sharded or packed: 0\.weight"):
        chita.export(model, tmp_path / "a.safetensors", "dense")
