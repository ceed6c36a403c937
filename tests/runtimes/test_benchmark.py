"""What is measured, and in which words it is said."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

import chita
from chita.errors import InputError
from chita.runtimes import benchmark as module
from chita.runtimes.inputs import inputs_of
from chita.runtimes.layers import NetworkPair, layers_of
from chita.runtimes.measured import Benchmark, Pair, RuntimeResult
from chita.runtimes.sizes import size_of, tensor_sizes
from chita.runtimes.table import RUNTIMES, find_runtimes
from chita.runtimes.timing import Timing
from tests.runtimes.networks import zeroed


def pair(dense, pruned, spread=0.0):
    def timing(median):
        low, high = median * (1 - spread), median * (1 + spread)
        return Timing(median=median, low=low, high=high, count=9)

    return Pair(dense=timing(dense), pruned=timing(pruned))


@pytest.mark.parametrize(
    ("measured", "sentence"),
    [
        ({"pair": pair(2.9, 1.0)}, "x: 2.9 × faster"),
        ({"pair": pair(2.9, 1.0), "note": "all sparse"}, "x: 2.9 × faster (all sparse)"),
        ({"pair": pair(1.0, 1.25)}, "x: 1.25 × slower"),
        ({"pair": pair(1.02, 1.0)}, "x: no gain, 1.02 ×"),
        ({"pair": pair(1.1, 1.0, spread=0.2)}, "x: no gain, 1.10 ×"),
        ({"pair": pair(1.0, 1.1, spread=0.2)}, "x: no gain, 0.91 ×"),
        (
            {"pair": pair(1.5, 1.0), "why_not": "it stores zeros densely"},
            "x: no gain to expect, it stores zeros densely (measured 1.50 ×)",
        ),
        ({"skipped": "x is not installed"}, "x: not measured, x is not installed"),
    ],
)
def test_a_sentence_says_what_was_measured(measured, sentence):
    assert RuntimeResult(name="x", **measured).sentence == sentence


@pytest.fixture(scope="module")
def done():
    torch.manual_seed(0)
    parts = (nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(784, 8))
    dense = nn.Sequential(*parts).eval()
    pruned = zeroed(copy.deepcopy(dense), 0.9)
    given = torch.randn(2, 3, 9, 9)
    return chita.benchmark(dense, pruned, given, runtimes=["torch", "mnn"], seconds=0.01)


@pytest.mark.slow
def test_a_benchmark_of_a_network_and_its_layers(done):
    assert [runtime.name for runtime in done.runtimes] == ["torch", "mnn"]
    assert (done.batch, done.shapes) == (2, {"input": (2, 3, 9, 9)})
    names = ["0", "3"]
    assert [layer.name for layer in done.layers] == names
    assert [layer.shape for layer in done.layers] == [(16, 3, 3, 3), (8, 784)]
    assert all(85 < layer.zeros < 95 for layer in done.layers)
    for runtime in done.runtimes:
        assert runtime.pair is not None
        assert runtime.pair.dense.count >= 9
        assert runtime.difference is not None
        assert list(runtime.layers) == names
    assert len(done.sentences) == 4
    assert done.sentences[0].startswith("torch: no gain to expect")


def test_layers_alone_are_those_that_are_pruned():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(20, 8)
            self.inner = nn.Linear(8, 8)
            self.head = nn.Linear(8, 20, bias=False)
            self.head.weight = self.embedding.weight

        def forward(self, tokens):
            return self.head(self.inner(self.embedding(tokens)))

    network = Decoder().eval()
    given = inputs_of(torch.randint(0, 20, (2, 5)))
    found = layers_of(NetworkPair(name="", dense=network, pruned=network, inputs=given))
    assert [layer.name for layer in found] == ["inner"]


def test_the_fastest_of_all_is_named():
    slow, fast = pair(8.0, 2.0), pair(1.0, 1.0)
    runtimes = [RuntimeResult(name="a", pair=slow), RuntimeResult(name="b", pair=fast)]
    found = partial(
        Benchmark, model="x", batch=1, shapes={}, load=(None, None), processor="", versions={}
    )
    first = "of all: dense is fastest in b (1e+03 ms), pruned in"
    assert found(runtimes=runtimes).sentences[-1] == f"{first} b (1e+03 ms): no gain, 1.00 ×"
    runtimes[0] = RuntimeResult(name="a", pair=pair(8.0, 0.5))
    assert found(runtimes=runtimes).sentences[-1] == f"{first} a (500 ms): 2.0 × faster"


def test_files_are_listed_with_and_without_compression(done):
    sizes = {size.name: size for size in done.sizes}
    assert list(sizes) == ["safetensors", "sparse file", "sparse file, float16", "mnn file"]
    assert sizes["safetensors"].dense == sizes["safetensors"].pruned
    assert sizes["sparse file"].pruned < sizes["sparse file"].dense
    assert sizes["safetensors"].pruned_zstd < sizes["safetensors"].dense_zstd
    smallest = min(size.pruned for size in done.sizes if "float16" not in size.name)
    assert f"{smallest / 1e6:.3f} MB" in done.sentences[-1]


def test_tied_tensors_count_once(tmp_path):
    network = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64))
    places = [tmp_path / name for name in ("untied", "tied")]
    for place in places:
        place.mkdir()
    (untied, *_) = tensor_sizes(network, network, places[0])
    assert untied.dense > 8 * 64 * 64
    network[1].weight = network[0].weight
    (tied, sparse, _) = tensor_sizes(network, network, places[1])
    assert tied.dense < 6 * 64 * 64
    assert sparse.dense < 6 * 64 * 64


def test_all_files_of_a_network_count(tmp_path):
    for name, size in (("a", 3), ("b", 4)):
        (tmp_path / name).write_bytes(bytes(size))
    found = size_of("x", [tmp_path / "a", tmp_path / "b"], [tmp_path / "a"])
    assert (found.dense, found.pruned) == (7, 3)


def test_a_runtime_that_fails_is_named_and_the_others_are_measured():
    network = nn.Sequential(zeroed(nn.Linear(8, 8))).bfloat16()
    given = torch.ones(1, 8, dtype=torch.bfloat16)
    found = chita.benchmark(
        network, network, given, runtimes=["onnxruntime", "torch"], seconds=0.01
    )
    assert [runtime.pair is None for runtime in found.runtimes] == [True, False]
    assert "\n" not in found.runtimes[0].sentence


def test_inputs_that_do_not_fit_are_one_error():
    network = nn.Linear(3, 3)
    with pytest.raises(InputError, match="forward pass fails"):
        chita.benchmark(network, network, torch.ones(1, 4), runtimes=["torch"], layers=False)


def test_a_record_is_read_back(done):
    assert type(done).model_validate_json(done.model_dump_json()) == done


def test_a_runtime_with_other_outputs_is_not_measured(monkeypatch):
    runtime = type(RUNTIMES["torch"])
    prepared = runtime.prepare

    def doubled(self, network, inputs, folder, *, sparse):
        loaded = prepared(self, network, inputs, folder, sparse=sparse)
        run = lambda given: {name: 2 * t for name, t in loaded.run(given).items()}  # noqa: E731
        return type(loaded)(run=run)

    monkeypatch.setattr(runtime, "prepare", doubled)
    network = nn.Sequential(nn.Linear(3, 3))
    found = chita.benchmark(network, network, torch.ones(1, 3), runtimes=["torch"])
    assert found.runtimes[0].pair is None
    assert "outputs are other ones" in found.runtimes[0].sentence


def test_what_is_absent_is_listed_unless_it_was_named(monkeypatch):
    monkeypatch.setattr("chita.runtimes.runtime.find_spec", lambda name: None)
    monkeypatch.setattr(module, "side_by_side", lambda runs, seconds: dict.fromkeys(runs, second()))
    network = nn.Sequential(nn.Linear(3, 3))
    found = chita.benchmark(network, network, torch.ones(1, 3), layers=False)
    skipped = {runtime.name for runtime in found.runtimes if runtime.skipped}
    assert skipped == {"onnxruntime", "mnn", "openvino"}
    with pytest.raises(InputError, match="mnn needs"):
        find_runtimes(["mnn"])


def second():
    return Timing(median=1.0, low=1.0, high=1.0, count=9)


@pytest.mark.parametrize(
    ("names", "message"),
    [(["mn"], "Did you mean"), ([], "one at least"), (["torch", "torch"], "name each once")],
)
def test_names_of_runtimes(names, message):
    with pytest.raises(InputError, match=message):
        find_runtimes(names)


def test_networks_of_two_architectures():
    with pytest.raises(InputError, match="of one architecture"):
        chita.benchmark(nn.Linear(2, 3), nn.Linear(2, 2), torch.ones(1, 2))
