"""Masks of the paper's networks from positioned rows, against those from rows as a matrix."""

import pytest
import torch

from chita.collect.backends import Backends
from chita.collect.gradients import rows_type
from chita.collect.store import RowStore
from chita.constraints import Sparsity
from chita.data.examples import Examples
from chita.data.sets import load_dataset
from chita.losses import LOSSES
from chita.models.prunable import prunable_layout, read_weights
from chita.models.zoo import find_model, load_model
from chita.problem import BlockGram, GradientGram, LocalQuadratic
from chita.solvers import BSO, CHITA

NETWORKS = {
    "mlpnet": ("mlpnet_mnist.safetensors", 400),
    "resnet20": ("resnet20_cifar10q75.safetensors", 60),
}


def images_of(name, data_dir):
    """The training images of a network."""
    if name == "mlpnet":
        return load_dataset("mnist", data_dir)[0]
    return load_dataset(str(data_dir / "cifar10-q75.zip"), images=find_model(name).images)[0]


def rows_of_network(model, layout, examples, *, positioned):
    """Rows of all samples; positioned are all tensors that can be."""
    kind = "positioned" if positioned else "rule"
    backends = Backends(model, layout, LOSSES["cross_entropy"], examples, 1, kind)
    backends.hold(backends.outlines)
    assert {*backends.of.values()} == {kind}
    store = RowStore(
        layout, len(examples), rows_type(model, layout), torch.device("cpu"), {}, None,
        backends.outlines,
    )  # fmt: skip
    filled = 0
    for batch in examples.batches(20):
        backends.run(batch, lambda name, found: store.write(name, filled, found))  # noqa: B023
        filled += 20
    return store.rows()


@pytest.mark.data
@pytest.mark.parametrize("name", ["mlpnet", pytest.param("resnet20", marks=pytest.mark.slow)])
@pytest.mark.parametrize("structure", ["full", "outputs"])
@pytest.mark.parametrize("solver", [BSO(), CHITA()])
def test_masks_are_those_of_rows_as_a_matrix(name, structure, solver, data_dir):
    checkpoint, count = NETWORKS[name]
    model = load_model(name, data_dir / "checkpoints" / checkpoint).eval()
    images = images_of(name, data_dir).take(torch.arange(0, 60 * count, 60))
    for dtype in (torch.float32, torch.float64):
        model = model.to(dtype)
        examples = Examples(*((x.to(dtype), y) for x, y in images.parts))
        layout = prunable_layout(model)
        constraint = Sparsity(0.8).bind(layout)
        found = []
        for positioned in (True, False):
            rows = rows_of_network(model, layout, examples, positioned=positioned)
            blocks = list(layout.outputs)
            curvature = GradientGram(rows) if structure == "full" else BlockGram(rows, blocks)
            ridge = 0.1 * float(curvature.diagonal().mean())
            problem = LocalQuadratic(
                w_bar=read_weights(model, layout),
                curvature=curvature,
                ridge=ridge,
                shift=curvature.constant(0.0),
            )
            found.append(solver.solve(problem, constraint))
        ours, theirs = found
        if dtype == torch.float64:
            assert torch.equal(ours.mask, theirs.mask)
        assert abs(ours.objective - theirs.objective) <= 1e-3 * abs(theirs.objective)
        assert int((ours.mask != theirs.mask).sum()) <= 1e-3 * layout.size
