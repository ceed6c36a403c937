"""The curvature of a layer's output error, kept as the Gram matrix of its inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, final

import torch
from torch import Tensor

from chita.errors import InputError, NumericalError
from chita.machine import at_once
from chita.problem.curvature import Curvature, Factor
from chita.problem.systems import Answer, padded, padded_factors, similar

_ENTRIES = 2**24  # of the systems solved at a time: 128 MB


@final
class InputGram(Curvature):
    """H = I ⊗ G: every output's weights have the same Hessian G = XᵀX/N, X the inputs (N, d).

    ½ vᵀHv is half the mean, over N inputs, of the squared change of the outputs that belongs to a
    change v of the weights. Weights are in the order (groups, outputs of a group, d), row-major,
    where a convolution's d are the entries of its window.

    Its image space is that of the weights themselves: image(v) = v, pullback(z) = z G,
    inner(a, b) = Σ a G bᵀ over outputs. So rows X are not needed, and G is not factored before a
    support asks for it.

    Frantar & Alistarh, SparseGPT (2023), section 3 (there with 2XᵀX); Meng et al., ALPS (2024),
    equation 1 (there with XᵀX, a sum over inputs).

    Fields of the constructor: `gram` (groups, d, d), or (d, d) for one group; `outputs`, of each
    group; `index`, which of these weights the curvature is of, None for all; `dtype`, in which
    large products are formed, that of the Gram where None. What is reported is in float64 always.
    `inputs` is d, the number of inputs of every output.

    >>> gram = torch.tensor([[2.0, 1.0], [1.0, 3.0]])
    >>> InputGram(gram, outputs=2).pullback(torch.tensor([1.0, 0.0, 0.0, 1.0]))
    tensor([2., 1., 1., 3.])
    """

    def __init__(
        self,
        gram: Tensor,
        outputs: int,
        index: Tensor | None = None,
        *,
        dtype: torch.dtype | None = None,
    ) -> None:
        gram = gram.unsqueeze(0) if gram.ndim == 2 else gram
        if gram.ndim != 3 or gram.shape[1] != gram.shape[2] or outputs < 1:
            raise InputError(
                f"A Gram of shape {tuple(gram.shape)} with {outputs} outputs is of no layer; give "
                "(groups, d, d) and at least one output."
            )
        self.outputs, self.inputs = outputs, gram.shape[1]
        self._whole = len(gram) * outputs * self.inputs
        super().__init__(self._whole if index is None else len(index))
        self.gram = gram.to(dtype or gram.dtype)
        self.exact = gram.double().contiguous()
        self._index = index

    @classmethod
    def of_whole_layer(cls, curvature: Curvature) -> InputGram:
        """Return a curvature as what it is; raise `InputError` where it is of a part only."""
        if isinstance(curvature, InputGram) and curvature._index is None:
            return curvature
        raise InputError(
            "This solver solves for all weights of a layer together, and the problem is of some. "
            "Use chita, iht or bso."
        )

    def constant(self, value: float) -> Tensor:
        """Return `value` for each weight of the layer, float64."""
        return torch.full((self._whole,), value, dtype=torch.float64, device=self.gram.device)

    def image(self, v: Tensor, support: Tensor | None = None) -> Tensor:
        """Return v among all weights of the layer, zero elsewhere."""
        where = self._index if support is None else self._where(support)
        if where is None:
            return v.clone()
        return v.new_zeros(self._whole).index_copy_(0, where, v)

    def pullback(self, z: Tensor, support: Tensor | None = None, *, exact: bool = False) -> Tensor:
        """Return z G, shape (p,), or its entries at S, (k,)."""
        gram = self.exact if exact else self.gram
        pulled = self._times(z.to(gram.dtype), gram)
        where = self._index if support is None else self._where(support)
        return pulled if where is None else pulled[where]

    def inner(self, a: Tensor, b: Tensor) -> float:
        """Return the sum over outputs of a G bᵀ, in float64."""
        return float(self._times(a.double(), self.exact) @ b.double())

    def diagonal(self) -> Tensor:
        """Return the mean square of the input of every weight, (p,)."""
        diagonal = self.gram.diagonal(dim1=1, dim2=2).unsqueeze(1)
        whole = diagonal.expand(-1, self.outputs, -1).flatten()
        return whole if self._index is None else whole[self._index]

    def block(self, index: Tensor) -> Tensor:
        """Return entries of G between weights of the same output, zero between outputs."""
        where = self._where(index)
        output, columns = where // self.inputs, where % self.inputs
        group = (output // self.outputs).unsqueeze(1)
        entries = self.exact[group, columns.unsqueeze(1), columns]
        return torch.where(output.unsqueeze(1) == output, entries, 0.0)

    def damped(self, ridge: float) -> Tensor:
        """Return G + λI of every group, (groups, d, d), as a new float64 tensor."""
        damped = self.exact.clone()
        damped.diagonal(dim1=1, dim2=2).add_(ridge)
        return damped

    def factor(self, support: Tensor, near: Factor | None = None) -> Factor:
        """Prepare one small system for every output, solved when asked."""
        known = near if isinstance(near, _OutputFactor) else None
        return _OutputFactor(self, self._where(support), known)

    def restrict(self, index: Tensor) -> Curvature:
        """Return the same Gram, seen from the named weights only."""
        return InputGram(self.exact, self.outputs, self._where(index), dtype=self.gram.dtype)

    def _where(self, support: Tensor) -> Tensor:
        """Return the places of some weights in the layer."""
        return support if self._index is None else self._index[support]

    def _times(self, z: Tensor, gram: Tensor) -> Tensor:
        return (z.view(len(gram), self.outputs, self.inputs) @ gram).flatten()


class _OutputBatch(NamedTuple):
    """Outputs that keep about as many weights each.

    Fields: `places` (b, m), where each kept weight stands in the support, ascending, the last one
    again for what an output lacks; `there` (b, m), which are; `columns` (b, m) in G; `groups` (b,).
    """

    places: Tensor
    there: Tensor
    columns: Tensor
    groups: Tensor


class _OutputFactor(Factor):
    """G_SS of every output apart: x = -(G_SS + λI)⁻¹ (r G)_S.

    An output that keeps the weights it kept in `near`, with the same residual and ridge, is not
    solved again.
    """

    def __init__(self, curvature: InputGram, support: Tensor, near: _OutputFactor | None) -> None:
        self._curvature = curvature
        self._answer: Answer | None = None
        if near is not None and near._curvature is curvature:
            self._answer = near._answer
        self._support = support
        rows = support // curvature.inputs
        total = len(curvature.gram) * curvature.outputs
        self._counts = torch.bincount(rows, minlength=total)
        self._starts = self._counts.cumsum(0) - self._counts

    def solve(self, residual: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
        curvature, support = self._curvature, self._support
        residual = residual.double()
        kept = torch.zeros_like(residual, dtype=torch.bool).index_fill_(0, support, True)
        step = torch.zeros_like(residual)
        rows = self._counts.nonzero().squeeze(1)
        by_output = residual.view(-1, curvature.inputs)
        if self._answer is not None:
            # H is zero between outputs, so an exchange in one changes nothing in another.
            known = self._answer.holds(ridge, kept, by_output, lambda w: w // curvature.inputs)
            step = torch.where(known.repeat_interleave(curvature.inputs), self._answer.step, step)
            rows = rows[~known[rows]]
        # Residuals are weights in the metric G, so their pullback is r G: one product for all.
        pulled = curvature._times(residual, curvature.exact)
        for batch in self._batches(rows):
            where = support[batch.places]
            right = torch.where(batch.there, pulled[where], 0.0).unsqueeze(2)
            solved = torch.cholesky_solve(right, self._triangles(batch, ridge)).squeeze(2)
            step[where[batch.there]] = -solved[batch.there]
        self._answer = Answer(ridge, kept, by_output, step)
        return step[support].to(curvature.gram.dtype), residual + step.to(curvature.gram.dtype)

    def cross(self, index: Tensor, ridge: float) -> Tensor:
        # Woodbury: Jᵀ(J_S J_Sᵀ + λI)⁻¹J = (H - H_S (H_SS + λI)⁻¹ H_Sᵀ)/λ
        if ridge == 0:
            raise NumericalError(
                "Without a ridge the exchange of weights has no price. Give a ridge above zero."
            )
        curvature = self._curvature
        where = curvature._where(index)
        crossed = curvature.block(index)
        rows = where // curvature.inputs
        # Outputs without a kept weight have no second term: their C is H/λ.
        asked = rows.unique()
        for batch in self._batches(asked[self._counts[asked] > 0]):
            triangles = self._triangles(batch, ridge)
            first = self._support[batch.places[:, 0]] // curvature.inputs
            for triangle, columns, there, row, group in zip(
                triangles, batch.columns, batch.there, first, batch.groups, strict=True
            ):
                own = (rows == row).nonzero().squeeze(1)
                named = where[own] % curvature.inputs
                pulled = curvature.exact[group][columns[there]][:, named]
                kept = triangle[: len(pulled), : len(pulled)]  # the rest is padding
                half = torch.linalg.solve_triangular(kept, pulled, upper=False)  # L⁻¹H_Sᵀ
                crossed[own.unsqueeze(1), own] -= half.T @ half
        return crossed / ridge

    def _batches(self, rows: Tensor) -> Iterator[_OutputBatch]:
        """Cut outputs (all with kept weights) into batches of similar counts."""
        room = at_once(_ENTRIES, rows.device)
        for some in similar(self._counts, rows, lambda count: count**2, room):
            places, there = padded(self._starts[some], self._counts[some])
            columns = self._support[places] % self._curvature.inputs
            yield _OutputBatch(places, there, columns, some // self._curvature.outputs)

    def _triangles(self, batch: _OutputBatch, ridge: float) -> Tensor:
        """Return the factors of G_SS + λI, (b, m, m), with a one for what an output lacks."""
        gram, columns = self._curvature.exact, batch.columns
        # G_SS is gathered by flat places in all groups' Grams, of which most outputs share one.
        rows = batch.groups.unsqueeze(1) * self._curvature.inputs + columns
        places = rows.unsqueeze(2) * self._curvature.inputs + columns.unsqueeze(1)
        systems = gram.view(-1).index_select(0, places.flatten()).view(places.shape)
        # Up to the smallest count nothing is lacking: only the border beyond is set to zero.
        fewest = int(batch.there.sum(1).min())
        systems[:, fewest:].mul_(batch.there[:, fewest:].unsqueeze(2))
        systems[:, :, fewest:].mul_(batch.there[:, fewest:].unsqueeze(1))
        added = torch.full_like(columns, ridge, dtype=torch.float64)
        return padded_factors(systems, batch.there, added)
