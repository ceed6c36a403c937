import shutil

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

import chita
from chita.models.paper.mlpnet import MLPNet
from chita.models.zoo import load_network
from chita.sparse_file import coding
from chita.sparse_file.coding import Coding
from chita.sparse_file.writing import write_sparse
from tests.sparse_file.forging import KINDS, bytes_of, same_bits, tensor_with
from tests.sparse_file.reference import read

quick = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80
)
ONE = st.tuples(
    st.sampled_from(KINDS),
    st.lists(st.integers(0, 12), max_size=3).map(tuple) | st.just((3000,)),
    st.sampled_from([0.0, 0.002, 0.05, 0.3, 0.9, 1.0]),
    st.integers(0, 99),
)


@quick
@given(st.dictionaries(st.text(max_size=20), ONE, max_size=4))
def test_every_bit_comes_back(tmp_path, drawn):
    """Here and by the reader that was written from the specification."""
    tensors = {name: tensor_with(*one) for name, one in drawn.items()}
    done = write_sparse(tensors, tmp_path / "x.chita", force=True)
    assert same_bits(chita.load(tmp_path / "x.chita"), tensors)
    plain = read(tmp_path / "x.chita")
    assert list(plain) == list(tensors)
    for name, (kind, sizes, content) in plain.items():
        assert (getattr(torch, kind), sizes) == (tensors[name].dtype, tensors[name].shape)
        assert content == bytes_of(tensors[name])
    assert done.bytes == done.path.stat().st_size
    assert done.dense_bytes == sum(t.numel() * t.itemsize for t in tensors.values())


@quick
@given(st.lists(st.integers(0, 2000), max_size=30), st.integers(0, 600))
def test_gaps_of_any_length(between, tail):
    """Against counting zeros one by one; the places come back."""
    bits = np.array([n for zeros in between for n in [0] * zeros + [7]] + [0] * tail, "<u4")
    expected = [byte for zeros in between for byte in [255] * (zeros // 255) + [zeros % 255]]
    expected += [255] * (tail // 255)
    assert coding.gaps(bits).tolist() == expected
    places = coding.places_of_gaps(coding.gaps(bits), len(bits), len(between))
    assert places.tolist() == np.flatnonzero(bits).tolist()


def test_the_bytes_of_the_specification():
    bits = np.zeros(900, "<u4")
    bits[[0, 1, 300, 301]] = 1
    assert coding.gaps(bits).tobytes() == bytes.fromhex("0000FF2B00FFFF")
    assert coding.bitmask(bits[:12]).tobytes() == bytes.fromhex("0300")


def test_negative_zeros_and_what_nan_carries(tmp_path):
    bits = torch.zeros(1000, dtype=torch.int32)
    kept = [0, -(2**31), 0x7FC01234, -1, 0x7F800001, 1]  # zero, -0.0, NaN of three kinds, tiny
    bits[: len(kept)] = torch.tensor(kept, dtype=torch.int32)
    tensors = {"w": bits.view(torch.float32)}
    done = write_sparse(tensors, tmp_path / "x.chita")
    assert done.tensors["w"].values == len(kept) - 1
    assert same_bits(chita.load(tmp_path / "x.chita"), tensors)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_at_the_edge(tmp_path, kind):
    tensors = {
        "scalar": tensor_with(kind, (), 1.0, 1),
        "empty": tensor_with(kind, (3, 0, 2), 1.0, 2),
        "zeros": tensor_with(kind, (1000,), 0.0, 3),
        "nothing": torch.empty(0, dtype=getattr(torch, kind)),
        "full": tensor_with(kind, (2, 1, 33), 1.0, 4),
        "transposed": tensor_with(kind, (40, 30), 0.1, 5).T,
        "every other": tensor_with(kind, (400,), 0.1, 6)[::2],
        "many dimensions": tensor_with(kind, (1,) * 30 + (2,), 1.0, 7),
        "ä 層 " * 1000: tensor_with(kind, (9,), 0.5, 8),
        "": tensor_with(kind, (9,), 0.4, 9),
    }
    done = write_sparse(tensors, tmp_path / "x.chita")
    found = chita.load(tmp_path / "x.chita")
    assert same_bits(found, tensors)
    assert found["nothing"].stride() == torch.empty(0).stride()  # which other views rely on
    assert done.tensors["zeros"].places == 3  # 1000 zeros are 3 times 255 and a rest


def test_parameters_views_and_conjugates(tmp_path):
    z = torch.randn(3, 4, dtype=torch.complex64)
    own = {"p": nn.Parameter(torch.randn(4)), "c": z.conj(), "i": z.conj().imag}
    write_sparse(own, tmp_path / "x.chita")
    found = chita.load(tmp_path / "x.chita")
    assert all(torch.equal(found[name], tensor.detach()) for name, tensor in own.items())
    assert not any(tensor.requires_grad for tensor in found.values())


def test_equal_tensors_are_stored_once_and_read_apart(tmp_path):
    weight = torch.randn(50, 20)
    tensors = {"a": weight, "b": weight.clone(), "c": weight.T, "d": weight + 1, "e": weight}
    done = write_sparse(tensors, tmp_path / "x.chita")
    assert [name for name, one in done.tensors.items() if isinstance(one, str)] == ["b", "e"]
    assert done.tensors["b"] == done.tensors["e"] == "a"
    assert done.bytes < 4 * 50 * 20 * 3 + 1000
    found = chita.load(tmp_path / "x.chita")
    assert same_bits(found, tensors)
    found["a"].zero_()
    assert torch.equal(found["b"], weight)


def test_equal_bytes_are_not_equal_tensors(tmp_path):
    ones = torch.ones(6)
    tensors = {"a": ones, "b": ones.view(torch.int32), "c": ones.view(2, 3), "d": -ones}
    done = write_sparse(tensors, tmp_path / "x.chita")
    assert not any(isinstance(one, str) for one in done.tensors.values())
    assert same_bits(chita.load(tmp_path / "x.chita"), tensors)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.3, 0.6, 0.95, 1.0])
@pytest.mark.parametrize("name", ["float64", "float32", "float16", "int8"])
def test_no_other_coding_is_smaller(tmp_path, name, share):
    size = 20_000
    tensor = tensor_with(name, (size,), share, 3)
    width = tensor.itemsize
    one = write_sparse({"w": tensor}, tmp_path / "x.chita").tensors["w"]
    numbers = np.frombuffer(bytes_of(tensor), f"u{width}")
    places = np.flatnonzero(numbers)
    ends = np.concatenate([[-1], places, [size]])
    steps = np.diff(ends) - 1
    by_gaps = len(places) * (width + 1) + int((steps // 255).sum())
    by_bits = len(places) * width + size // 8
    assert one.values * width + one.places == min(size * width, by_bits, by_gaps)


@pytest.mark.parametrize(
    ("kept", "size", "expected"),
    [
        (7, 8, Coding.DENSE),  # 8 bytes, and so by bits
        (6, 8, Coding.BITMASK),
        (1, 8, Coding.BITMASK),  # 2 bytes, and so by gaps
        (1, 9, Coding.GAPS),
        (250, 2040, Coding.BITMASK),  # 255 bytes for places; gaps are 250, and 7 for zeros behind
        (250, 2072, Coding.GAPS),  # 259 and 257
    ],
)
def test_of_equals_the_simplest(tmp_path, kept, size, expected):
    tensor = (torch.arange(size) < kept).to(torch.uint8)
    assert write_sparse({"w": tensor}, tmp_path / "x.chita").tensors["w"].coding == expected


def test_one_way_to_load(tmp_path):
    state = MLPNet().state_dict()
    save_file(state, tmp_path / "x.safetensors")
    torch.save(state, tmp_path / "x.pt")
    write_sparse(state, tmp_path / "x.chita")
    shutil.copyfile(tmp_path / "x.chita", tmp_path / "x.bin")
    chita.prune(MLPNet(), budget=chita.Nonzeros(100), solver="magnitude").save(tmp_path / "run")
    for name in ("x.safetensors", "x.pt", "x.chita", "x.bin"):
        assert same_bits(chita.load(str(tmp_path / name)), state)
    assert chita.load(tmp_path / "run").keys() == state.keys()


def test_weights_may_be_a_sparse_file(tmp_path):
    state = MLPNet().state_dict()
    write_sparse(state, tmp_path / "x.chita")
    model, dropped = load_network("mlpnet", tmp_path / "x.chita")
    assert not dropped
    assert same_bits(dict(model.state_dict()), dict(state))


def test_any_loader_reads_the_parts(tmp_path):
    weight = torch.zeros(30, 30)
    weight.view(-1)[[0, 1, 300, 301]] = torch.tensor([1.0, -0.0, 0.1, 2.0])
    write_sparse({"w": weight, "b": torch.arange(1, 4)}, tmp_path / "x.chita")
    parts = load_file(tmp_path / "x.chita")
    assert parts.keys() == {"values/float32", "values/int64", "gaps"}
    assert parts["values/float32"].tolist() == weight.view(-1)[[0, 1, 300, 301]].tolist()
    assert parts["values/int64"].tolist() == [1, 2, 3]
    assert bytes(parts["gaps"].tolist()) == bytes.fromhex("0000FF2B00FFFF")


def test_the_same_tensors_are_the_same_bytes(tmp_path):
    tensors = {"w": torch.eye(40), "b": torch.arange(3), "h": torch.ones(2).half()}
    files = [write_sparse(tensors, tmp_path / f"{i}.chita").path.read_bytes() for i in range(3)]
    assert files[0] == files[1] == files[2]


@pytest.mark.data
def test_mlpnet_at_ninety_per_cent(tmp_path, data_dir):
    """Files beside files: 0.15 of the dense one, 0.085 with values in float16."""
    model = chita.load_model("mlpnet", data_dir / "checkpoints/mlpnet_mnist.safetensors")
    pruned = chita.prune(model, sparsity=0.9, solver="magnitude")
    state = pruned.model.state_dict()
    save_file(state, tmp_path / "dense.safetensors")
    dense = (tmp_path / "dense.safetensors").stat().st_size
    assert dense >= 4 * 32_360
    exact = write_sparse(state, tmp_path / "exact.chita")
    assert (tmp_path / "exact.chita").stat().st_size == exact.bytes <= 0.15 * dense
    assert same_bits(chita.load(tmp_path / "exact.chita"), dict(state))
    half = write_sparse(state, tmp_path / "half.chita", values="float16")
    assert (tmp_path / "half.chita").stat().st_size == half.bytes <= 0.085 * dense
    assert not half.raised
    for name, tensor in chita.load(tmp_path / "half.chita").items():
        assert torch.equal(tensor, state[name].half().float())
        assert torch.equal(tensor != 0, state[name] != 0)
    plain = read(tmp_path / "half.chita")
    assert all(plain[name][2] == bytes_of(state[name].half().float()) for name in state)
