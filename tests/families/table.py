"""Each family pruned, saved, loaded elsewhere and compared; and the table of what came out."""

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_model

import chita
from chita import nested
from chita.losses import make_loss
from tests.families import FAMILIES

SPARSITY, ROWS = 0.7, 20
HEAD = """# Networks that were tried

Written by `python -m tests.families`; a test fails when it no longer holds. Small networks of
each family, random weights, pruned at 70 % by `chita` on 20 samples, saved, loaded into a fresh
network by safetensors alone, and compared on the same batch. BERT, GPT-2 and Llama are those of
the library transformers, the others are written in `tests/families`.

| network | layers pruned | weights that compete | kept | loss | outcome |
|---|---|---|---|---|---|
"""


def outputs(family, model, batch):
    """All tensors that a network returns for a batch, or its loss where a function calls it."""
    with torch.no_grad():
        copied = nested.map_tensors(torch.clone, batch)
        if callable(family.loss):
            return [make_loss(family.loss, batch).mean(model, copied)]
        if isinstance(batch, dict):
            return list(nested.tensors(dict(model(**copied))))
        inputs = copied[0] if isinstance(copied[0], tuple) else (copied[0],)
        return list(nested.tensors(model(*inputs)))


def round_trip(name, folder):
    """Return the pruned result, and whether a fresh network loaded from its file is equal."""
    family = FAMILIES[name]
    batch = family.data()
    result = chita.prune(
        family.build(),
        batch,
        sparsity=SPARSITY,
        fisher=chita.Fisher(samples=ROWS),
        loss=family.loss,
    )
    result.save(folder)
    fresh = family.build()
    load_model(fresh, Path(folder) / "model.safetensors")
    pairs = zip(outputs(family, result.model, batch), outputs(family, fresh, batch), strict=True)
    return result, all(torch.equal(a, b) for a, b in pairs)


def row(name):
    """The line of the table for one family."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            result, equal = round_trip(name, f"{folder}/run")
    except chita.InputError as error:
        return f"| {name} | | | | | refused: {str(error).split('. ')[0]} |"
    model = result.model
    kinds = []
    for layer in result.layers:
        owner = model.get_submodule(layer.name.rpartition(".")[0])
        kinds.append(type(owner).__name__)
    named = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    record = result.record
    loss = {"_smoothed": "a function"}.get(record.loss, record.loss)
    outcome = "outputs equal" if equal else "OUTPUTS DIFFER"
    return f"| {name} | {named} | {record.prunable:,} | {record.nnz:,} | {loss} | {outcome} |"


def table():
    """The whole page."""
    return HEAD + "\n".join(map(row, FAMILIES)) + "\n"
