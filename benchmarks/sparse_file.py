"""How small a sparse file is, and how fast it is written and read, beside safetensors and gzip.

Usage: python benchmarks/sparse_file.py
ResNet-50 with its initial weights (25.6 million numbers, 161 tensors and what batch norms keep),
pruned by magnitude. `share` is of the dense safetensors file; for `gzip`, that file is compressed
(level 6). Medians of five after one that does not count, of gzip one. A sparse file is flushed to
the disk when it is written, the others are not; safetensors maps a file that it reads, and most of
that time is spent later. `ratio` is to safetensors in the same process. Writes
benchmarks/results/sparse_file.json.
"""

import gzip
import json
import os
import statistics
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import chita
from chita.models.zoo import find_model
from chita.records import versions
from chita.sparse_file.writing import write_sparse

RESULTS = Path(__file__).parent / "results"
SPARSITIES = (0.5, 0.8, 0.9, 0.95, 0.98)


def seconds(run, repeats=5):
    """Median seconds after one run that does not count."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        run()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def zipped(dense, path):
    """Seconds and bytes of a file under gzip."""
    began = time.perf_counter()
    with path.open("wb") as raw, gzip.open(raw, "wb", compresslevel=6) as stream:
        stream.write(dense.read_bytes())
    wrote = time.perf_counter() - began
    began = time.perf_counter()
    with gzip.open(path) as stream:
        stream.read()
    return {"write": wrote, "read": time.perf_counter() - began, "bytes": path.stat().st_size}


def coding_of(one):
    """How a tensor is stored."""
    return "same" if isinstance(one, str) else one.coding.value


def measured(state, folder):
    """All files of one network."""
    dense, sparse = folder / "dense.safetensors", folder / "sparse.chita"
    save_file(state, dense)
    size = dense.stat().st_size
    save, load = seconds(lambda: save_file(state, dense)), seconds(lambda: load_file(dense))
    lines = [{"file": "safetensors", "bytes": size, "share": 1.0, "write": save, "read": load}]
    for values in (None, "float16", "bfloat16"):
        write = seconds(lambda v=values: write_sparse(state, sparse, values=v, force=True))
        done = write_sparse(state, sparse, values=values, force=True)
        read = seconds(lambda: chita.load(sparse))
        if values is None:
            found = chita.load(sparse)
            assert all(torch.equal(found[name], tensor) for name, tensor in state.items())
        lines.append({
            "file": f"sparse, {values or 'exact'}",
            "bytes": done.bytes,
            "share": done.bytes / size,
            "write": write,
            "read": read,
            "ratio": {"write": write / save, "read": read / load},
            "raised": sum(done.raised.values()),
            "codings": dict(Counter(coding_of(one) for one in done.tensors.values())),
        })
    pressed = zipped(dense, folder / "dense.gz")
    lines.append({"file": "safetensors, gzip", "share": pressed["bytes"] / size, **pressed})
    return lines


def main():
    """Measure, print, write."""
    results = []
    for sparsity in SPARSITIES:
        torch.manual_seed(0)
        model = find_model("resnet50").build().eval()
        pruned = chita.prune(model, sparsity=sparsity, solver="magnitude", inplace=True)
        state = dict(pruned.model.state_dict())
        with tempfile.TemporaryDirectory() as name:
            for line in measured(state, Path(name)):
                results.append({"sparsity": sparsity, **line})
                print(results[-1], flush=True)
    load = list(os.getloadavg())
    content = {
        "about": __doc__,
        "environment": {**versions(), "threads": torch.get_num_threads(), "load": load},
        "results": results,
    }
    (RESULTS / "sparse_file.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
