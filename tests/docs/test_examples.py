"""Every example runs from nothing, is short, and shows what it says."""

import contextlib
import io
import re
import runpy

import pytest

from chita.exports.verify import verify
from tests.docs.page import RENAMED_BY_TRANSFORMERS, ROOT, in_folder

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


def printed(name, folder):
    """What an example prints, run in an empty folder."""
    out = io.StringIO()
    with in_folder(folder), contextlib.redirect_stdout(out):
        runpy.run_path(str(ROOT / "examples" / f"{name}.py"), run_name="__main__")
    return out.getvalue()


def scores(text):
    """Accuracies by the beginning of their line."""
    found = re.findall(r"^([\w, ]+?)(?::|  ).*top-1.*: (\d+\.\d+)", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


def test_each_is_short_and_told_of_in_a_page():
    assert len(EXAMPLES) >= 5
    told = "".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))
    for path in EXAMPLES:
        assert len(path.read_text().splitlines()) <= 80, path.name
        assert f"examples/{path.name}" in told
        assert f"def test_{path.stem}(" in (ROOT / "tests/docs/test_examples.py").read_text()


def test_own_network(tmp_path):
    printed("own_network", tmp_path)
    assert (tmp_path / "own_network.safetensors").exists()


def test_cnn_in_stages(tmp_path):
    text = printed("cnn_in_stages", tmp_path)
    found = scores(text)
    assert "952 of 9520 weights kept" in text
    assert found["chita"] > found["magnitude"] + 20
    assert found["loaded"] == found["chita"]


@pytest.mark.slow
def test_decoder_by_layers(tmp_path):
    pytest.importorskip("transformers")
    text = printed("decoder_by_layers", tmp_path)
    errors = [float(value) for value in re.findall(r"error (\d+\.\d)", text)]
    for four in (errors[:4], errors[4:]):  # magnitude, wanda, sparsegpt, alps
        assert four == sorted(four, reverse=True)
    assert "147,456 zeros" in text


@pytest.mark.slow
def test_flops_budget(tmp_path):
    text = printed("flops_budget", tmp_path)
    assert re.search(r"^FLOPs +15\.0 % of FLOPs", text, re.MULTILINE)
    kept = re.search(r"fc.weight +640 +(\d+) +(\d+)", text)
    assert int(kept[2]) > int(kept[1])  # cheap weights, of which a budget of FLOPs keeps more


@pytest.mark.slow
def test_two_of_four(tmp_path):
    text = printed("two_of_four", tmp_path)
    assert text.count("2:4: True") == 3
    assert scores(text)["chita"] >= scores(text)["magnitude"]


@RENAMED_BY_TRANSFORMERS
def test_lora_under_masks(tmp_path):
    pytest.importorskip("peft")
    text = printed("lora_under_masks", tmp_path)
    found = re.findall(r"^(\w[\w ]+?) +perplexity +([\d.]+), ([\d,]+) removed", text, re.MULTILINE)
    perplexity = {name: float(value) for name, value, _ in found}
    filled = {name: int(count.replace(",", "")) for name, _, count in found}
    assert perplexity["with an adapter"] < perplexity["merged under masks"] < perplexity["pruned"]
    assert perplexity["dense"] < perplexity["pruned"]
    assert [name for name, count in filled.items() if count] == ["dense", "merged plainly"]
    assert not verify(tmp_path / "merged", tmp_path / "pruned").faults


def test_own_training_loop(tmp_path):
    text = printed("own_training_loop", tmp_path)
    found = scores(text)
    assert found["trained under masks"] > found["pruned"] + 10
    assert "16,684 of 16,684 removed weights are zero" in text
    held, free = text.splitlines()[-2:]
    assert held.endswith("16,684 of 16,684 removed weights are zero")
    assert not free.endswith("16,684 of 16,684 removed weights are zero")
