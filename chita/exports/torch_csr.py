"""A PyTorch checkpoint with sparse weights in linear layers, where these were measured faster."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from chita.exports.checks import same_outputs, same_tensors
from chita.exports.kind import Checked, Kind, Pruned
from chita.runtimes.copying import tensors_of
from chita.runtimes.csr import DENSE, choose, in_forms, use_sparse
from chita.runtimes.inputs import reference


@final
class TorchCsr(Kind):
    """A state dict for `load_state_dict(torch.load(FILE, weights_only=True), assign=True)`."""

    name = "torch-csr"
    suffix = ".pt"
    about = "a PyTorch state dict, linear layers in CSR or BSR where that was measured faster"

    def write(self, pruned: Pruned, path: Path) -> Checked:
        """Measure every linear layer with these inputs, and write the state dict.

        Read again, the tensors must be the same to the bit and the outputs within the tolerance,
        by layers of PyTorch and by those of `chita.use_sparse`.
        """
        network, inputs = pruned.called()
        choices = choose(network, inputs)
        torch.save(tensors_of(in_forms(network, choices)), path)
        read: dict[str, Tensor] = torch.load(path, weights_only=True)
        dense = {name: t if t.layout == torch.strided else t.to_dense() for name, t in read.items()}
        same_tensors(pruned.tensors, dense)
        again: Any = copy.deepcopy(network)
        again.load_state_dict(read, assign=True)
        expected = reference(network, inputs)
        found = reference(again, inputs), reference(use_sparse(again), inputs)
        gap = max(same_outputs(outputs, expected, inputs) for outputs in found)
        taken = [f"{c.layer} {c.form}" for c in choices if c.form != DENSE]
        note = (
            f"{len(taken)} of {len(choices)} linear layers are sparse, faster with "
            f"batches of {inputs.samples}: {', '.join(taken)}"
            if taken
            else f"no linear layer was faster sparse with batches of {inputs.samples}, so "
            "all are dense"
        )
        return Checked(nnz=pruned.nnz_in(dense), difference=gap, notes=(note,))
