"""Values in float16 and bfloat16: nearest, with the same zeros, and nothing lost in silence."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

import chita
from chita.errors import InputError
from chita.sparse_file.writing import write_sparse
from tests.sparse_file.forging import KINDS, bytes_of, same_bits, tensor_with
from tests.sparse_file.reference import read

NARROW = ["float16", "bfloat16"]
SMALLEST = {"float16": 2.0**-24, "bfloat16": 2.0**-133}
LARGEST = {"float16": 65504.0, "bfloat16": float(torch.finfo(torch.bfloat16).max)}
TINY = [sign * 2.0**-power for power in (24, 25, 26, 40, 133, 134, 149) for sign in (1, -1)]
TIES = [n * (1 + odd * 2.0**-bits) for bits in (8, 11) for odd in (1, 3) for n in (1, -3, 2.0**-20)]
quick = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100
)


@quick
@given(
    st.sampled_from(NARROW),
    st.sampled_from(["float32", "float64"]),
    st.lists(
        st.floats(-65504, 65504, width=32) | st.sampled_from([0.0, -0.0, *TINY, *TIES]),
        max_size=60,
    ),
)
@example("float16", "float32", [*TINY, *TIES])
@example("float16", "float64", [*TINY, *TIES])
@example("bfloat16", "float32", [*TINY, *TIES])
@example("bfloat16", "float64", [*TINY, *TIES])
def test_nearest_and_the_same_zeros(tmp_path, narrow, kind, numbers):
    """Where PyTorch's rounding gives zero the smallest number of that sign stands; -0.0 stays."""
    tensor = torch.tensor(numbers, dtype=getattr(torch, kind))
    done = write_sparse({"w": tensor}, tmp_path / "x.chita", values=narrow, force=True)
    rounded = tensor.to(getattr(torch, narrow)).to(tensor.dtype)
    lost = (rounded == 0) & (tensor != 0)
    rounded[lost] = torch.copysign(torch.tensor(SMALLEST[narrow]), tensor[lost]).to(tensor.dtype)
    assert same_bits(chita.load(tmp_path / "x.chita"), {"w": rounded})
    assert done.raised == ({"w": int(lost.sum())} if lost.any() else {})
    assert read(tmp_path / "x.chita")["w"][2] == bytes_of(rounded)


def test_equal_tensors_count_what_was_raised_in_each(tmp_path):
    """They are stored once; a name that is not listed would say that nothing changed in it."""
    tiny = torch.tensor([1.0, 1e-30, 0.0, 1e-30])
    done = write_sparse({"a": tiny, "b": tiny.clone()}, tmp_path / "x.chita", values="float16")
    assert done.tensors["b"] == "a"
    assert done.raised == {"a": 2, "b": 2}


@pytest.mark.parametrize("narrow", NARROW)
def test_every_narrow_number_comes_back_exactly(tmp_path, narrow):
    every = torch.from_numpy(np.arange(1 << 16, dtype=np.uint16).view(np.int16))
    every = every.view(getattr(torch, narrow)).float()
    every = every[~every.isnan()]
    done = write_sparse({"w": every}, tmp_path / "x.chita", values=getattr(torch, narrow))
    assert same_bits(chita.load(tmp_path / "x.chita"), {"w": every})
    assert not done.raised


@pytest.mark.parametrize("narrow", NARROW)
@pytest.mark.parametrize("kind", ["float32", "float64"])
def test_what_does_not_fit_is_refused_with_all_its_names(tmp_path, narrow, kind):
    dtype = getattr(torch, kind)
    edge = torch.tensor([LARGEST[narrow], -LARGEST[narrow], float("inf"), 0.0], dtype=dtype)
    write_sparse({"w": edge}, tmp_path / "edge.chita", values=narrow)
    assert same_bits(chita.load(tmp_path / "edge.chita"), {"w": edge})
    above = torch.nextafter(edge[0].float(), torch.tensor(float("inf"))).to(dtype)
    tensors = {
        "fine": edge,
        "large": torch.tensor([0.0, above, -above], dtype=dtype),
        "nan": torch.tensor([1.0, float("nan")], dtype=dtype),
    }
    with pytest.raises(InputError, match=r"'large': 2 numbers.*'nan': 1 numbers.*values=None"):
        write_sparse(tensors, tmp_path / "x.chita", values=narrow)
    assert not (tmp_path / "x.chita").exists()


@pytest.mark.parametrize("narrow", NARROW)
def test_a_dense_tensor_is_narrow_too_and_others_keep_their_type(tmp_path, narrow):
    tensors = {kind: tensor_with(kind, (300,), 0.9, 1) for kind in KINDS}
    for name in ("float32", "float64"):
        tensors[name] = torch.linspace(1, 2, 300, dtype=getattr(torch, name))
    done = write_sparse(tensors, tmp_path / "x.chita", values=narrow)
    assert all(done.tensors[kind].type == kind for kind in KINDS)
    with safe_open(tmp_path / "x.chita", framework="pt") as file:
        parts = {part.partition("/")[2] for part in file.keys() if "/" in part}  # noqa: SIM118
    assert parts == {*KINDS, narrow} - {"float32", "float64"}
    found = chita.load(tmp_path / "x.chita")
    for name in ("float32", "float64"):
        tensors[name] = tensors[name].to(getattr(torch, narrow)).to(tensors[name].dtype)
    assert same_bits(found, tensors)


@pytest.mark.parametrize("wrong", ["float32", "half", "int8", torch.float64, 16])
def test_other_types_of_values_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match=r"give one of float16, bfloat16, or None"):
        write_sparse({"w": torch.ones(2)}, tmp_path / "x.chita", values=wrong)
