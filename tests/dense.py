"""Slow, obvious truth: dense algebra in float64 and all masks by enumeration."""

from itertools import combinations

import torch


class DenseProblem:
    """Q(w) = gᵀ(w-w̄) + ½(w-w̄)ᵀ(H+λI)(w-w̄), everything formed, in float64."""

    def __init__(self, rows, w_bar, ridge, first_order):
        a = rows.double()  # (n, p)
        self.w_bar = w_bar.double()
        self.hessian = a.T @ a / len(a) + ridge * torch.eye(a.shape[1], dtype=torch.float64)
        self.gradient = first_order * a.mean(0)

    def value(self, weights):
        d = weights.double() - self.w_bar
        return float(self.gradient @ d + 0.5 * d @ self.hessian @ d)

    def gradient_at(self, weights):
        return self.gradient + self.hessian @ (weights.double() - self.w_bar)

    def minimise_on(self, support):
        """Solve the p x p normal equations with the weights off the support held at zero."""
        weights = torch.zeros_like(self.w_bar)
        start = self.gradient_at(weights)
        block = self.hessian[support][:, support]
        weights[support] = torch.linalg.solve(block, -start[support])
        return weights

    def minima(self, supports):
        """Q at the minima on many supports (m, k) of one size, as `minimise_on` one by one."""
        start = self.gradient - self.hessian @ self.w_bar
        blocks = self.hessian[supports[:, :, None], supports[:, None, :]]
        weights = self.w_bar.new_zeros(len(supports), len(self.w_bar))
        weights.scatter_(1, supports, torch.linalg.solve(blocks, -start[supports]))
        d = weights - self.w_bar
        return d @ self.gradient + 0.5 * (d @ self.hessian * d).sum(1)

    def best(self, k):
        """The lowest Q over all masks of k weights."""
        return float(self.minima(all_supports(len(self.w_bar), k)).min())


def all_supports(size, k):
    """The places of the weights kept by every mask that keeps k of them, (m, k)."""
    return torch.tensor(list(combinations(range(size), k)))


def allowed_supports(constraint, k):
    """Those among them that a constraint allows, each asked for by itself."""
    supports = all_supports(constraint.size, k)
    masks = torch.zeros(len(supports), constraint.size, dtype=torch.bool)
    masks.scatter_(1, supports, value=True)
    return supports[torch.tensor([constraint.allows(mask) for mask in masks])]


def swapped_supports(mask):
    """The places kept after each swap of one weight kept for one that is not, (m, k)."""
    kept, others = mask.nonzero().flatten().tolist(), (~mask).nonzero().flatten().tolist()
    return torch.tensor([
        [enter if place == out else place for place in kept] for out in kept for enter in others
    ])
