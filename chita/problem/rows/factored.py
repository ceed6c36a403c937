"""Rows of a linear layer that sees one position per sample: outer products, never formed."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from chita.problem.rows.dense import DenseRows, gathered
from chita.problem.rows.rows import Rows

_STRIP = 512  # rows of a Gram at a time, of which the part above the diagonal is left out


@final
class FactoredRows(Rows):
    """A whose row i is δᵢ ⊗ xᵢ, for δ (n, out) and x (n, in): p = out·in weights, row-major.

    Products are matrix products with the factors, of as many operations as with A and without its
    memory: A v = Σ_o δ_io (V x_i)_o and Aᵀz = Σ_i z_i δᵢ ⊗ xᵢ.

    Args:
        delta: δᵀ, (out, n), contiguous.
        inputs: xᵀ, (in, n), of the same type.

    >>> rows = FactoredRows(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 0.0], [1.0, 1.0]]))
    >>> rows.gather(torch.tensor([0, 1])).T  # A
    tensor([[3., 1.],
            [0., 2.]])
    >>> rows.times(torch.tensor([1.0, 1.0]))
    tensor([4., 2.])
    """

    def __init__(self, delta: Tensor, inputs: Tensor) -> None:
        p = len(delta) * len(inputs)
        super().__init__(delta.shape[1], p, delta.dtype, delta.device, factored=True)
        self._delta = delta
        self._inputs = inputs

    def times(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """Return A v, or A_S v, in the type of v: float64 promotes the factors, not A."""
        v = v.to(self.type_with(v))
        if support is not None:
            v = v.new_zeros(self.p).index_copy_(0, support, v)
        # With V the weights as a matrix, row i of A gives δᵢᵀ V xᵢ.
        matrix = v.view(len(self._delta), len(self._inputs))
        return (self._delta.to(v.dtype) * (matrix @ self._inputs.to(v.dtype))).sum(0)

    def transpose_times(self, z: Tensor, support: Tensor | None = None) -> Tensor:
        """Return Aᵀz or its entries at S; z is rounded to `dtype`."""
        # Σᵢ zᵢ δᵢ ⊗ xᵢ is one product of the factors, z scaling the first, for S as for all.
        full = ((self._delta * z.to(self.dtype)) @ self._inputs.T).flatten()
        return full if support is None else full[support]

    def gather(self, index: Tensor) -> Tensor:
        """Return the columns named by index (k,), (k, n)."""
        width = len(self._inputs)
        return self._delta[index // width].mul_(self._inputs[index % width])

    def part(self, segment: slice) -> FactoredRows | DenseRows:
        """Return the columns of consecutive weights: as factors if they are of whole outputs."""
        width = len(self._inputs)
        if segment.start % width == 0 == segment.stop % width:
            outputs = slice(segment.start // width, segment.stop // width)
            return FactoredRows(self._delta[outputs], self._inputs)
        index = torch.arange(segment.start, segment.stop, device=self.device)
        return DenseRows(self.gather(index))

    def times_each(self, v: Tensor, count: int) -> Tensor:
        """Return A_b v_b, where a part is an output by the factors: δ_b ∘ xᵀv_b."""
        if count != len(self._delta):
            return gathered(self).times_each(v, count)
        wide = self.type_with(v)
        return (v.to(wide).view(count, -1) @ self._inputs.to(wide)) * self._delta.to(wide)

    def transpose_times_each(self, z: Tensor) -> Tensor:
        """Return A_bᵀ z_b, where a part is an output by the factors: x (δ_b ∘ z_b)."""
        if len(z) != len(self._delta):
            return gathered(self).transpose_times_each(z)
        wide = self.type_with(z)
        return ((self._delta.to(wide) * z.to(wide)) @ self._inputs.to(wide).T).flatten()

    def squared_norms(self) -> Tensor:
        """Return squared norms of the columns (p,)."""
        return (self._delta.square() @ self._inputs.square().T).flatten()

    def whole_gram(self) -> Tensor | None:
        """Return the lower triangle of A Aᵀ = ΔᵀΔ ∘ XᵀX, in strips, from products in `dtype`."""
        # ⟨δᵢ ⊗ xᵢ, δⱼ ⊗ xⱼ⟩ = ⟨δᵢ, δⱼ⟩⟨xᵢ, xⱼ⟩: n²(out + in) operations, where A takes n²·out·in.
        gram = torch.zeros(self.n, self.n, dtype=torch.float64, device=self.device)
        for start in range(0, self.n, _STRIP):
            strip = slice(start, start + _STRIP)
            delta = self._delta[:, start:].T @ self._delta[:, strip]
            gram[start:, strip] = delta
            gram[start:, strip] *= self._inputs[:, start:].T @ self._inputs[:, strip]
        return gram
