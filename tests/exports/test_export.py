"""Every kind of file: written, checked, in its place, or nowhere."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.utils import prune

import chita
from chita.errors import CheckpointError, InputError, OutputError
from chita.exports.export import write_kind
from chita.exports.kind import Pruned
from chita.exports.table import KINDS
from chita.runtimes.csr import Choice, SparseLinear
from chita.runtimes.onnx import OnnxRuntime
from tests.runtimes.networks import convolutional, perceptron, zeroed

PLAIN = {"dense": "net.safetensors", "sparse": "net.chita"}
RUN = {"onnx": "net.onnx", "mnn": "net.mnn", "openvino": "net.xml", "torch-csr": "net.pt"}


def nonzeros(network):
    return sum(int((p != 0).sum()) for p in network.parameters() if p.ndim > 1)


@pytest.mark.parametrize(("kind", "name"), [*PLAIN.items(), *RUN.items()])
def test_what_is_told_of_a_file(kind, name, tmp_path):
    network = convolutional()
    before = copy.deepcopy(network.state_dict())
    given = torch.randn(2, 3, 9, 9)
    found = chita.export(network, tmp_path / "out" / name, kind, inputs=given)
    assert found.kind == kind
    assert found.path == tmp_path / "out" / name
    assert set(found.files) == set((tmp_path / "out").iterdir())
    assert found.bytes == sum(file.stat().st_size for file in found.files)
    assert found.nnz == nonzeros(network)
    assert found.prunable == sum(p.numel() for p in network.parameters() if p.ndim > 1)
    assert found.dense_bytes == sum(t.nbytes for t in network.state_dict().values())
    assert (found.difference is None) == (kind in PLAIN)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())


def test_masks_are_those_given_and_negative_zeros_are_zeros(tmp_path):
    network = perceptron()
    masks = {f"{i}.weight": network[i].weight.detach() != 0 for i in (0, 2)}
    for name, mask in masks.items():
        weight = network.get_parameter(name).detach()
        weight[~mask] = -0.0
    found = chita.export(network, tmp_path / "net.chita", "sparse", masks=masks)
    assert found.prunable == 2 * 64 * 64
    assert found.nnz == sum(int(mask.sum()) for mask in masks.values())
    read = chita.load(tmp_path / "net.chita")
    assert not any(torch.signbit(read[name][~mask]).any() for name, mask in masks.items())
    smaller = chita.export(perceptron(), tmp_path / "other.chita", "sparse")
    assert found.bytes < 1.1 * smaller.bytes


def test_refilled_weights_are_refused(tmp_path):
    network = perceptron()
    mask = {"0.weight": network[0].weight.detach() != 0}
    network[0].weight.detach().fill_(1)
    with pytest.raises(InputError, match=r"0\.weight: ([\d,]+) of \1 removed weights are not zero"):
        chita.export(network, tmp_path / "net.chita", "sparse", masks=mask)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("values", ["float16", "bfloat16"])
def test_values_in_half_as_many_bits(values, tmp_path):
    network = perceptron()
    network[0].weight.detach()[0, 0] = 1e-40
    found = chita.export(network, tmp_path / "net.chita", "sparse", values=values)
    assert found.nnz == nonzeros(network)
    raised = values == "float16"
    assert len(found.notes) == raised
    read = chita.load(tmp_path / "net.chita")
    assert (read["0.weight"] != 0).sum() == (network[0].weight != 0).sum()
    kind = getattr(torch, values)
    assert torch.equal(read["2.weight"], network[2].weight.detach().to(kind).float())


def test_a_file_that_takes_one_number_of_samples_says_so(tmp_path):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = zeroed(nn.Linear(12, 6))

        def forward(self, x):
            return self.layer(x.reshape(2, 12))

    found = chita.export(Fixed(), tmp_path / "net.onnx", "onnx", inputs=torch.randn(2, 3, 4))
    assert found.notes == ("takes batches of 2, no others",)


def test_a_norm_that_takes_an_output_whole_is_no_fault(tmp_path):
    network = convolutional()
    network[1].weight.detach()[3] = 0
    found = chita.export(network, tmp_path / "net.onnx", "onnx", inputs=torch.randn(2, 3, 9, 9))
    assert found.nnz <= nonzeros(network)


def another(change):
    """Let the ONNX runtime write a network that is not the one that was given."""

    def write(self, network, inputs, path, *, sparse):
        other = copy.deepcopy(network)
        change(other)
        return OnnxRuntime._own(self, other, inputs, path, sparse=sparse)

    return write


def refill(network):
    weight = network[9].weight.detach()
    weight[weight == 0] = 1e-12


def first_alone(network):
    """What a graph would compute that was traced with one sample."""
    network[9].forward = lambda x, own=network[9].forward: own(x)[:1].expand(len(x), -1)


def half_lost(network):
    network[4].weight.detach()[:8] = 0


def drift(network):
    network[9].bias.detach().add_(1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (refill, "9.weight is nowhere in it with its zeros"),
        (drift, "output differs by"),
    ],
)
def test_a_file_that_is_another_network_is_not_kept(change, message, tmp_path, monkeypatch):
    monkeypatch.setattr(OnnxRuntime, "_own", OnnxRuntime.write, raising=False)
    monkeypatch.setattr(OnnxRuntime, "write", another(change))
    with pytest.raises(OutputError, match=message):
        chita.export(convolutional(), tmp_path / "net.onnx", "onnx", inputs=torch.randn(2, 3, 9, 9))
    assert not list(tmp_path.iterdir())


def test_lost_values_are_found_even_where_outputs_are_the_same(tmp_path, monkeypatch):
    network = convolutional()
    network[9].weight.detach()[0, 0] = 1e-20
    monkeypatch.setattr(OnnxRuntime, "_own", OnnxRuntime.write, raising=False)

    def drop(other):
        other[9].weight.detach()[0, 0] = 0

    monkeypatch.setattr(OnnxRuntime, "write", another(drop))
    with pytest.raises(OutputError, match=r"9\.weight has lost values in 1 outputs"):
        chita.export(network, tmp_path / "net.onnx", "onnx", inputs=torch.randn(2, 3, 9, 9))


def test_sparse_layers_with_other_outputs_are_not_kept(tmp_path, monkeypatch):
    taken = (Choice(layer="0", form="csr", seconds={}),)
    monkeypatch.setattr("chita.exports.torch_csr.choose", lambda network, inputs: taken)
    monkeypatch.setattr(SparseLinear, "forward", lambda self, x: 2 * (x @ self.weight.to_dense().T))
    with pytest.raises(OutputError, match="torch-csr file is not the network: output differs by"):
        chita.export(perceptron(), tmp_path / "x.pt", "torch-csr", inputs=torch.ones(2, 64))
    assert not list(tmp_path.iterdir())


def test_a_file_that_computes_one_sample_alone_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(OnnxRuntime, "_own", OnnxRuntime.write, raising=False)
    monkeypatch.setattr(OnnxRuntime, "write", another(first_alone))
    given = torch.randn(1, 3, 9, 9)
    with pytest.raises(OutputError, match=r"output differs by .* with batches of 3"):
        chita.export(convolutional(), tmp_path / "net.onnx", "onnx", inputs=given)


def test_outputs_lost_as_a_whole_are_lost(tmp_path, monkeypatch):
    network = convolutional()
    network[4].weight.detach()[network[4].weight != 0] = 1e-20
    monkeypatch.setattr(OnnxRuntime, "_own", OnnxRuntime.write, raising=False)
    monkeypatch.setattr(OnnxRuntime, "write", another(half_lost))
    with pytest.raises(OutputError, match=r"4\.weight has lost values in \d outputs"):
        chita.export(network, tmp_path / "net.onnx", "onnx", inputs=torch.randn(2, 3, 9, 9))


def test_a_dense_file_that_changed_a_bit_is_not_kept(tmp_path, monkeypatch):
    def changed(tensors, path, metadata):
        tensors["0.bias"][0] += 1
        save_file(tensors, path, metadata=metadata)

    monkeypatch.setattr("chita.models.stored.save_file", changed)
    with pytest.raises(OutputError, match=r"0\.bias was not read back"):
        chita.export(perceptron(), tmp_path / "net.safetensors", "dense")
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_replaced_with_force_alone(tmp_path):
    path = tmp_path / "net.safetensors"
    network = perceptron()
    chita.export(network, path, "dense")
    first = path.read_bytes()
    network[0].bias.detach().add_(1)
    with pytest.raises(OutputError, match="exists"):
        chita.export(network, path, "dense")
    assert path.read_bytes() == first
    chita.export(network, path, "dense", force=True)
    assert torch.equal(load_file(path)["0.bias"], network[0].bias.detach())
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_lies_beside_is_not_replaced_unasked(tmp_path):
    (tmp_path / "net.bin").write_text("of someone else")
    network, given = nn.Sequential(zeroed(nn.Linear(8, 8))), torch.randn(2, 8)
    with pytest.raises(OutputError, match=r"net\.bin exists"):
        chita.export(network, tmp_path / "net.xml", "openvino", inputs=given)
    assert [file.name for file in tmp_path.iterdir()] == ["net.bin"]
    assert (tmp_path / "net.bin").read_text() == "of someone else"


@pytest.mark.parametrize("folder", [False, True])
def test_what_lies_beside_and_belongs_to_nothing_of_ours_stays(folder, tmp_path):
    network, given = nn.Sequential(zeroed(nn.Linear(8, 8))), torch.randn(2, 8)
    if folder:  # where a file of ours was made before
        chita.export(network, tmp_path / "net.xml", "openvino", inputs=given)
        (tmp_path / "net.bin").unlink()
        (tmp_path / "net.bin").mkdir()
    else:
        (tmp_path / "net.bin").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match=r"net\.bin belongs to something else"):
        chita.export(network, tmp_path / "net.xml", "openvino", inputs=given, force=True)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("force", [False, True])
def test_a_move_that_fails_leaves_all_as_it_was(force, tmp_path, monkeypatch):
    network, given = nn.Sequential(zeroed(nn.Linear(8, 8))), torch.randn(2, 8)
    path = tmp_path / "net.xml"
    if force:
        chita.export(network, path, "openvino", inputs=given)
        network[0].bias.detach().add_(1)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    rename = Path.rename

    def failing(self, target):
        if Path(target) == path and ".part" in str(self):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="No space left"):
        chita.export(network, path, "openvino", inputs=given, force=force)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


def masked_by_torch():
    network = perceptron()
    prune.random_unstructured(network[0], "weight", 0.5)
    network(torch.randn(1, 64))
    return network


class Extra(nn.Linear):
    def get_extra_state(self):
        return {"note": 1}


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ("a network", "str is no torch.nn.Module"),
        (nn.Linear(3, 3, device="meta"), "has no values in weight"),
        (nn.LazyLinear(3), "has no values in weight"),
        (masked_by_torch(), "torch.nn.utils.prune.remove"),
        (Extra(3, 3), "_extra_state in the state dict are no tensors"),
    ],
)
def test_networks_that_cannot_be_written(network, message, tmp_path):
    with pytest.raises(InputError, match=message):
        chita.export(network, tmp_path / "net.safetensors", "dense")
    assert not list(tmp_path.iterdir())


def test_masks_of_other_shapes(tmp_path):
    mask = {"0.weight": torch.ones(3, 3, dtype=torch.bool)}
    pruned = Pruned(tensors={"0.weight": torch.ones(2, 2)}, masks=mask)
    with pytest.raises(CheckpointError, match=r"0\.weight has the shape \(2, 2\) and its mask"):
        write_kind(KINDS["dense"], pruned, tmp_path / "net.safetensors", force=False)


def test_what_a_converter_raises_is_no_full_disk(tmp_path):
    class Complex(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvals(x).abs()

    given = torch.randn(2, 3, 3)
    with pytest.raises(InputError, match="Complex cannot be"):
        chita.export(Complex(), tmp_path / "net.onnx", "onnx", inputs=given)


@pytest.mark.parametrize(
    ("path", "kind", "more", "error", "message"),
    [
        ("net.onx", "onnx", {}, OutputError, "ends in .onnx"),
        ("net", "dense", {}, OutputError, "ends in .safetensors"),
        ("net.onnx", "onx", {}, InputError, "Did you mean onnx"),
        ("net.onnx", "onnx", {}, InputError, "give an example of its inputs"),
        ("net.onnx", "onnx", {"inputs": "x"}, InputError, "give what the network is called with"),
        ("net.onnx", "onnx", {"inputs": torch.ones(1, 3)}, InputError, "forward pass fails in 0"),
        ("net.safetensors", "dense", {"values": "float16"}, InputError, "keeps the tensors' own"),
        ("net.chita", "sparse", {"values": "int8"}, InputError, "`values` is 'int8'"),
        ("hf", "hf", {"inputs": torch.ones(1, 64)}, InputError, "no network of transformers"),
        ("net.pt", "semi-structured", {}, InputError, "GPU"),
        ("folder.onnx", "onnx", {"force": True}, OutputError, "is no file"),
        ("full", "hf", {"force": True}, OutputError, "holds more than a network"),
        ("file", "hf", {"force": True}, OutputError, "holds more than a network"),
        ("file/net.chita", "sparse", {}, OutputError, "could not be written"),
    ],
)
def test_what_cannot_be_exported(path, kind, more, error, message, tmp_path):
    if kind == "semi-structured" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=message):
        chita.export(perceptron(), tmp_path / path, kind, **more)
    assert sorted(tmp_path.rglob("*")) == before


def test_every_kind_says_what_it_is():
    assert list(KINDS) == [kind.name for kind in KINDS.values()]
    assert all(kind.about for kind in KINDS.values())
