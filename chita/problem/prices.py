"""The exact change of the minimum when weights change sides, without another solve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from chita.problem.quadratic import LocalQuadratic, Minimum


@final
@dataclass(frozen=True, kw_only=True)
class Prices:
    """Changes of the minimum of Q when some of m candidate weights enter or leave its support S.

    Let z = w̄ - pullback(r)/λ at the residual r of the minimum: a kept weight where kept, for a
    removed one the value it would take if the pull of the kept ones stayed as it is. With
    C_ij = aᵢᵀM⁻¹aⱼ, M = A_S A_Sᵀ + nλI, and Σ = diag(1 for kept, -1 for removed), letting the
    candidates D change sides changes the minimum by (λ/2) z_Dᵀ (Σ_D - C_DD)⁻¹ z_D
    (`docs/maths.md`, "chita"): M changes by one column for each.

    Fields: `index` (m,), the candidates; `kept` (m,), whether each is in S; `values`, z there;
    `cross`, C there, (m, m); `ridge`, λ > 0. Values and cross are float64.
    """

    index: Tensor
    kept: Tensor
    values: Tensor
    cross: Tensor
    ridge: float

    @classmethod
    def at(
        cls,
        problem: LocalQuadratic,
        mask: Tensor,
        minimum: Minimum,
        gradient: Tensor,
        index: Tensor,
    ) -> Prices:
        """Return the prices for weights of an index (m,) at the minimum on the support `mask` (p,).

        `gradient` (p,) is that of Q at the minimum. Raises `NumericalError` as `Factor.cross`.
        """
        kept = mask[index]
        # On removed weights g = pullback(r) - λw̄, so z = -g/λ; on kept ones g = 0, so z = w.
        values = torch.where(kept, minimum.weights[index], -gradient[index] / problem.ridge)
        cross = minimum.factor.cross(index, problem.ridge)
        return cls(index=index, kept=kept, values=values.double(), cross=cross, ridge=problem.ridge)

    def change(self, moved: Tensor) -> float:
        """Return the change of the minimum when the candidates at positions (d,) change sides."""
        values = self.values[moved]
        # Woodbury for M - A_D Σ_D A_Dᵀ, where Σ_D is its own inverse: Σ_D - C_DD.
        system = torch.where(self.kept[moved], 1.0, -1.0).double().diag()
        system -= self.cross[moved][:, moved]
        return 0.5 * self.ridge * float(values @ torch.linalg.solve(system, values))

    def swaps(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return positions of the a kept and b removed candidates, and each pair's change, (a, b).

        (λ/2) [(1 + C_jj) z_i² - 2 C_ij z_i z_j - (1 - C_ii) z_j²] / [(1 - C_ii)(1 + C_jj) + C_ij²]
        for the kept i out and the removed j in.
        """
        out, enter = self.kept.nonzero().squeeze(1), (~self.kept).nonzero().squeeze(1)
        diagonal = self.cross.diagonal()
        # The 2 x 2 inverse of (Σ_D - C_DD) = [[1 - C_ii, -C_ij], [-C_ij, -1 - C_jj]], written out
        # for all pairs at once; its determinant is minus the denominator.
        left, right = (1 - diagonal[out]).unsqueeze(1), 1 + diagonal[enter]
        both = self.cross[out][:, enter]
        z_out, z_enter = self.values[out].unsqueeze(1), self.values[enter]
        price = right * z_out**2 - 2 * both * z_out * z_enter - left * z_enter**2
        return out, enter, 0.5 * self.ridge * price / (left * right + both**2)

    def swapped(self, out: int, enter: int) -> Prices:
        """Return the prices after one swap of the candidates at two positions.

        M loses aᵢaᵢᵀ and gains aⱼaⱼᵀ: two rank-one updates of C and z.
        """
        values, cross, kept = self.values, self.cross, self.kept.clone()
        for position, side in ((out, -1.0), (enter, 1.0)):
            # Sherman & Morrison for M + side·a aᵀ: C loses side·c cᵀ/(1 + side·c_a), c the column
            # of the candidate, and z loses the same multiple of c times z_a.
            column = cross[:, position]
            share = column / (1 + side * column[position])
            values = values - side * values[position] * share
            cross = torch.addr(cross, column, share, alpha=-side)
        kept[out], kept[enter] = False, True
        return Prices(index=self.index, kept=kept, values=values, cross=cross, ridge=self.ridge)
