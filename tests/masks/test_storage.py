import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from chita.errors import CheckpointError
from chita.masks.storage import load_masks, save_masks


def test_the_documented_bits(tmp_path):
    """Weight i is bit i mod 8, least significant first, of byte i div 8."""
    mask = torch.zeros(2, 5, dtype=torch.bool)
    mask[0, 0] = mask[0, 3] = mask[1, 4] = True  # flat 0, 3 and 9
    save_masks({"w": mask}, tmp_path / "m")
    assert load_file(tmp_path / "m")["w"].tolist() == [0b00001001, 0b00000010]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=3), min_size=1, max_size=4))
def test_round_trip(tmp_path, shapes):
    masks = {f"layer.{i}": torch.rand(shape) < 0.5 for i, shape in enumerate(shapes)}
    save_masks(masks, tmp_path / "m")
    back = load_masks(tmp_path / "m")
    assert back.keys() == masks.keys()
    assert all(torch.equal(back[name], masks[name]) for name in masks)


def test_what_is_no_mask_file_is_refused(tmp_path):
    path = tmp_path / "m"
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_masks(path)
    path.write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_masks(path)
    save_file({"w": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not a mask file"):
        load_masks(path)
    newer = {"format": "chita-masks", "version": "2", "shapes": "{}"}
    save_file({"w": torch.zeros(2)}, path, metadata=newer)
    with pytest.raises(CheckpointError, match="not a mask file"):
        load_masks(path)


@pytest.mark.parametrize("packed", [[1], [1, 2, 3], [1, 0b00000100]])
def test_a_damaged_mask_is_named(tmp_path, packed):
    metadata = {"format": "chita-masks", "version": "1", "shapes": '{"w": [10]}'}
    save_file({"w": torch.tensor(packed, dtype=torch.uint8)}, tmp_path / "m", metadata=metadata)
    with pytest.raises(CheckpointError, match="the mask of w is damaged"):
        load_masks(tmp_path / "m")
