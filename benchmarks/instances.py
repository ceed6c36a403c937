"""Problems to measure on: the reference instances of MLPNet, and random ones of any size."""

import os
from pathlib import Path

import torch

from chita.collect.gradients import collect_gradients
from chita.data.sets import load_dataset
from chita.machine import large_matrix
from chita.models.prunable import prunable_layout, read_weights
from chita.models.zoo import load_model
from chita.problem import DenseRows, GradientGram, LocalQuadratic
from chita.solvers import SOLVERS as ALL

MLPNET_SIZE = 32_360
# Those that take rows; the others prune layer by layer and are measured by benchmarks/layers.py.
SOLVERS = {name: kind for name, kind in ALL.items() if kind.takes(GradientGram)}
# First-order scale, ridge, weights kept: six sparsities, 0.5 to 0.98.
REFERENCE = [
    (first_order, ridge, kept)
    for first_order in (0.0, 1.0)
    for ridge in (1e-4, 1e-2)
    for kept in (16_180, 12_944, 9_708, 6_471, 3_235, 647)
]


def data_dir():
    """The folder of real data."""
    return Path(os.environ["CHITA_DATA"])


def mlpnet_rows(fastest="rule"):
    """Rows, w̄ and segments: training images 0, 60, ..., 59940; None without data."""
    if "CHITA_DATA" not in os.environ:
        return None
    folder = Path(os.environ["CHITA_DATA"])
    model = load_model("mlpnet", folder / "checkpoints" / "mlpnet_mnist.safetensors")
    layout = prunable_layout(model)
    examples = load_dataset("mnist", folder)[0].take(torch.arange(0, 60_000, 60))
    rows = collect_gradients(model, layout, examples, fastest=fastest).rows
    return rows, read_weights(model, layout), layout.segments


def posed(rows, w_bar, first_order, ridge, segments=()):
    """The quadratic model of rows."""
    curvature = GradientGram(rows)
    return LocalQuadratic(
        w_bar=w_bar,
        curvature=curvature,
        ridge=ridge,
        shift=curvature.constant(first_order),
        segments=segments,
    )


def random_rows(n, p):
    """Rows of low effective rank, as gradients have, and weights; the same in every run.

    Filled block by block, so that no second copy is ever in memory.
    """
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(50, n, generator=generator)
    noise = 0.05 * torch.randn(4096, n, generator=generator)
    data = large_matrix(p, n, torch.float32, torch.device("cpu"))
    for block in data.split(4096):
        shares = 0.01 * torch.randn(len(block), 50, generator=generator)
        torch.matmul(shares, directions, out=block)
        block += noise[: len(block)] * torch.rand(len(block), 1, generator=generator)
    return DenseRows(data), 0.1 * torch.randn(p, generator=generator)
