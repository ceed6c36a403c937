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

    def best(self, k):
        """The lowest Q over all masks of k weights."""
        supports = combinations(range(len(self.w_bar)), k)
        return min(self.value(self.minimise_on(list(support))) for support in supports)
