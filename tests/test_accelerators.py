"""The same run on an accelerator, where there is one."""

import pytest
import torch

import chita
from chita.collect.backends import BACKENDS
from chita.collect.gradients import collect_gradients
from chita.constraints import NofM, PerOutput, Sparsity
from chita.data.digits import digits
from chita.layout import Axes, Layout
from chita.machine import solving_device
from chita.models.prunable import prunable_layout
from chita.problem import DenseRows, GradientGram, InputGram, LocalQuadratic
from chita.solvers import SOLVERS
from tests.families.language import FAMILIES
from tests.families.transformers import SHAPES
from tests.problems import layer_problem, random_problem

pytestmark = pytest.mark.gpu
FOUND = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
every_device = pytest.mark.parametrize(
    "device",
    [
        pytest.param(name, marks=pytest.mark.skipif(not there, reason=f"no {name} here"))
        for name, there in FOUND.items()
    ],
)


@every_device
@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn"])
@pytest.mark.parametrize("way", BACKENDS)
def test_rows_are_those_of_the_cpu(device, name, way, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # 10 bits, PyTorch's own choice
    model = chita.load_model(name)
    layout, examples = prunable_layout(model), digits()[0].first(50)
    expected = collect_gradients(model, layout, examples, fastest="loop").rows
    found = collect_gradients(model.to(device), layout, examples.to(device), fastest=way)
    index = torch.arange(layout.size)
    rows = found.rows.gather(index.to(found.rows.device)).cpu()
    assert (rows - expected.gather(index)).norm() <= 1e-4 * expected.gather(index).norm()


@every_device
@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn"])
@pytest.mark.parametrize("solver", ["magnitude", "bso", "iht", "chita"])
def test_a_run_ends_where_it_ends_on_the_cpu(device, name, solver):
    model = chita.load_model(name)
    options = {"sparsity": 0.8, "fisher": chita.Fisher(samples=200), "solver": solver}
    expected = chita.prune(model, digits()[0], **options)
    found = chita.prune(model.to(device), digits()[0], **options)
    assert found.record.nnz == expected.record.nnz
    assert next(found.model.parameters()).device.type == device
    if solver != "magnitude":
        assert found.record.objective == pytest.approx(expected.record.objective, rel=0.02)


def moved(problem, device):
    """The same problem where a network on a device has its problems solved."""
    device = solving_device(torch.device(device))
    curvature = problem.curvature
    if isinstance(curvature, InputGram):
        curvature = InputGram(curvature.exact.to(device), curvature.outputs)
    else:
        columns = [curvature.image(column) for column in torch.eye(problem.curvature.size).double()]
        curvature = GradientGram(DenseRows(torch.stack(columns).to(device)))
    return LocalQuadratic(
        w_bar=problem.w_bar.to(device),
        curvature=curvature,
        ridge=problem.ridge,
        shift=problem.shift.to(device),
    )


@every_device
@pytest.mark.parametrize("budget", [Sparsity(0.7), NofM(2, 4), PerOutput(0.5)])
@pytest.mark.parametrize("kind", [GradientGram, InputGram])
@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_ends_where_it_ends_on_the_cpu(device, name, kind, budget):
    solver = SOLVERS[name]()
    if not solver.takes(kind):
        pytest.skip("not of this problem")
    if kind is InputGram:
        problem, _ = layer_problem(60, (1, 6, 24), ridge=0.1, seed=1)
    else:
        problem, _ = random_problem(60, 144, ridge=0.1, first_order=0.3, seed=1)
    layout = Layout(names=("w",), shapes=((6, 24),), axes=(Axes(groups=1),))
    constraint = budget.bind(layout)
    there = moved(problem, device)
    expected, found = solver.solve(problem, constraint), solver.solve(there, constraint)
    assert found.weights.device == there.w_bar.device
    assert found.objective == pytest.approx(expected.objective, rel=1e-6)
    assert torch.equal(found.mask.cpu(), expected.mask)


LAYERWISE = [n for n, kind in SOLVERS.items() if kind.takes(InputGram)]


@every_device
@pytest.mark.parametrize("family", [FAMILIES["gpt2"], SHAPES["t5"]], ids=["gpt2", "t5"])
@pytest.mark.parametrize("solver", LAYERWISE)
def test_layers_end_where_they_end_on_the_cpu(device, family, solver):
    options = {
        "sparsity": 0.5,
        "fisher": chita.Fisher(samples=8),
        "solver": solver,
        "layerwise": True,
        "memory": chita.Memory(max_memory=0.0),
    }
    expected = chita.prune(family.build(), family.data(), **options)
    found = chita.prune(family.build().to(device), family.data(), **options)
    assert found.record.nnz == expected.record.nnz
    assert next(found.model.parameters()).device.type == device
    for ours, theirs in zip(found.layers, expected.layers, strict=True):
        assert ours.kept == theirs.kept
        assert ours.solved.inputs == theirs.solved.inputs
        if theirs.solved.error is not None:
            assert ours.solved.error == pytest.approx(theirs.solved.error, rel=0.2, abs=1e-4)


def test_two_of_four_for_sparse_tensor_cores(tmp_path):
    if not FOUND["cuda"] or torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("no GPU with sparse tensor cores here")
    network = torch.nn.Sequential(
        torch.nn.Linear(128, 256), torch.nn.ReLU(), torch.nn.Linear(256, 64)
    )
    with torch.no_grad():
        for layer in (network[0], network[2]):
            layer.weight.view(-1, 4)[:, 2:] = 0
    given = torch.randn(64, 128)
    found = chita.export(network, tmp_path / "net.pt", "semi-structured", inputs=given)
    assert found.nnz == (128 * 256 + 256 * 64) // 2
    assert found.difference is not None
    assert found.difference < 0.02
    assert (tmp_path / "net.pt").stat().st_size < 0.7 * 2 * (128 * 256 + 256 * 64)
