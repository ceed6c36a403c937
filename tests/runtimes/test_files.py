"""Networks as files of other runtimes: outputs, names, and every zero in its place."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import chita
from chita.errors import InputError, OutputError
from chita.exports.table import KINDS
from chita.imports import install
from chita.runtimes.compare import difference
from chita.runtimes.inputs import inputs_of, reference
from chita.runtimes.mnn import MnnRuntime, stored_sparse
from chita.runtimes.onnx import OnnxRuntime
from chita.runtimes.openvino import OpenVinoRuntime
from tests.families.language import FAMILIES
from tests.runtimes.networks import Keywords, convolutional, words, zeroed

GRAPHS = ("onnx", "mnn", "openvino")
ALL = [OnnxRuntime(), MnnRuntime(), OpenVinoRuntime()]
every = pytest.mark.parametrize("runtime", ALL, ids=lambda runtime: runtime.name)


def grouped(layer):
    return zeroed(nn.Sequential(layer))


@every
def test_a_convolutional_network_with_any_number_of_samples(runtime, tmp_path):
    network, inputs = convolutional(), inputs_of(torch.randn(1, 3, 9, 9))
    path = tmp_path / f"network{runtime.suffix}"
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert runtime.write(network, inputs, path, sparse=True)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    run = runtime.load(path, inputs)
    for samples in (1, 4, 1):
        given = inputs_of(torch.randn(samples, 3, 9, 9))
        assert difference(reference(network, given), run(given)).within()
    stored = {values.numel(): values.flatten() for _, values in runtime.constants(path)}
    for module in network:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            present = module.weight.detach().flatten() != 0
            assert torch.equal(stored[present.numel()] != 0, present)


@every
def test_names_of_inputs_and_outputs(runtime, tmp_path):
    network, inputs = Keywords().eval(), inputs_of(words())
    path = tmp_path / f"network{runtime.suffix}"
    assert runtime.write(network, inputs, path, sparse=True)
    longer = inputs_of(words(3, 9))
    found = runtime.load(path, longer)(longer)
    assert set(found) == {"hidden", "pooled"}
    assert difference(reference(network, longer), found).within()


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.head = nn.Linear(8, 3)
        zeroed(self)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


class Named(nn.Module):
    """Whose parameter, input and output have the names that ours would have."""

    def __init__(self):
        super().__init__()
        self.output = nn.Parameter(torch.randn(4))
        self.hidden = zeroed(nn.Linear(4, 4))

    def forward(self, hidden):
        return {"hidden": self.hidden(hidden) * self.output, "output": hidden * 2}


class Bytes(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = zeroed(nn.Linear(12, 4))

    def forward(self, x):
        return self.layer(x.float() / 255)


ODD = {
    "recurrent": (Recurrent, torch.randn(2, 5, 6), ("onnx", "openvino")),
    "groups": (
        lambda: grouped(nn.Conv2d(8, 12, 3, groups=4)),
        torch.randn(2, 8, 6, 6),
        ("onnx", "openvino"),
    ),
    "two groups": (lambda: grouped(nn.Conv1d(8, 12, 3, groups=2)), torch.randn(2, 8, 9), GRAPHS),
    "transposed": (lambda: grouped(nn.ConvTranspose2d(8, 6, 3)), torch.randn(2, 8, 5, 5), GRAPHS),
    "one dimension": (lambda: grouped(nn.Conv1d(8, 6, 3)), torch.randn(2, 8, 9), GRAPHS),
    "names": (Named, {"hidden": torch.randn(3, 4)}, GRAPHS),
    "bytes": (Bytes, torch.randint(0, 255, (2, 12), dtype=torch.uint8), ("onnx", "openvino")),
    "halves": (lambda: zeroed(nn.Linear(16, 8)).half(), torch.randn(2, 16).half(), ("onnx",)),
}


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        pytest.param(name, kind, marks=() if kind == kinds[-1] else pytest.mark.slow)
        for name, (*_, kinds) in ODD.items()
        for kind in kinds
    ],
)
def test_networks_that_converters_rearrange(network, kind, tmp_path):
    make, given, _ = ODD[network]
    path = tmp_path / f"net{KINDS[kind].suffix}"
    found = chita.export(make().eval(), path, kind, inputs=given)
    assert 0 < found.nnz < found.prunable / 2
    assert not any("batches of" in note for note in found.notes)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_a_transformer_in_mnn(family, tmp_path):
    """Whose fused attention and GELU it does not know, or only nearly."""
    network, batch = FAMILIES[family].build(), FAMILIES[family].data()
    before = network.config._attn_implementation
    inputs = inputs_of(batch).resized(3)
    found = chita.export(network, tmp_path / "net.mnn", "mnn", inputs=inputs)
    assert found.difference <= 1e-5
    assert network.config._attn_implementation == before


@pytest.mark.slow
def test_mnn_stores_enough_zeros_sparse_and_only_where_asked(tmp_path):
    runtime, inputs = MnnRuntime(), inputs_of(torch.randn(1, 3, 9, 9))
    sizes = {}
    for name, share, sparse in (("few", 0.2, True), ("many", 0.9, True), ("plain", 0.9, False)):
        path = tmp_path / f"{name}.mnn"
        runtime.write(convolutional(share), inputs, path, sparse=sparse)
        sizes[name] = stored_sparse(path)
    assert sizes["few"] == sizes["plain"] == 0
    assert sizes["many"] > 0


@pytest.mark.slow
def test_mnn_prints_nothing_where_results_are_printed(tmp_path):
    path = tmp_path / "network.mnn"
    inputs = inputs_of(torch.randn(1, 4))
    MnnRuntime().write(zeroed(nn.Sequential(nn.Linear(4, 4))), inputs, path, sparse=True)
    code = (
        "import sys, torch\n"
        "from chita.runtimes.mnn import MnnRuntime\n"
        "from chita.runtimes.inputs import inputs_of\n"
        "given = inputs_of(torch.randn(1, 4))\n"
        "print(*MnnRuntime().load(sys.argv[1], given)(given))\n"
    )
    asked = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(asked, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("output\n", "")


def test_no_file_of_this_folder_is_taken_for_the_converter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "_tools.py").write_text("raise SystemExit('mine')\n")
    network = nn.Sequential(zeroed(nn.Linear(4, 4)))
    MnnRuntime().write(network, inputs_of(torch.ones(1, 4)), tmp_path / "net.mnn", sparse=True)
    assert (tmp_path / "net.mnn").exists()


def test_a_converter_that_fails_is_one_error(tmp_path):
    source = tmp_path / "bad.onnx"
    source.write_bytes(b"no graph")
    with pytest.raises(OutputError, match="MNN's converter wrote nothing"):
        MnnRuntime().convert(source, tmp_path / "x.mnn", sparse=True)


def test_a_network_that_cannot_be_traced_is_one_error(tmp_path):
    class Branching(nn.Module):
        def forward(self, x):
            return x * 2 if x.sum().item() > 0 else x

    with pytest.raises(InputError, match="Branching cannot be exported to ONNX"):
        OnnxRuntime().write(
            Branching(), inputs_of(torch.ones(2, 3)), tmp_path / "x.onnx", sparse=True
        )
    assert not list(tmp_path.iterdir())


@every
def test_a_runtime_that_is_not_installed_says_how(runtime, monkeypatch):
    monkeypatch.setattr("chita.runtimes.runtime.find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"Install it: {install(runtime.extra, [])}"):
        runtime.check()
