"""`chita.prune`: exact counts, honest records, and networks left as they were."""

import itertools
from functools import partial

import pytest
import torch
from torch import nn

import chita
from chita.data.digits import digits
from chita.data.sampler import make_sampler
from chita.data.sets import load_dataset
from chita.errors import InputError
from chita.models.prunable import prunable_layout, read_weights
from chita.problem import DenseRows, GradientGram
from chita.pruning.config import Ridge
from chita.solvers import SOLVERS, Status
from chita.solvers.named import make_solver
from tests.conformance.table import BY_GRADIENTS, QUICK
from tests.dense import DenseProblem
from tests.pruning.cases import EITHER, GIVEN, NETWORKS, in_turn


@pytest.fixture(scope="module")
def calibration():
    return digits()[0]


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def assert_exact(model, result, solver):
    """Masks, weights and the record of a run at sparsity 0.9 agree."""
    size = prunable_layout(model).size
    kept = {key: result.model.state_dict()[key].count_nonzero() for key in result.masks}
    assert sum(map(int, kept.values())) == result.record.nnz == size - -(-size * 9 // 10)
    for layer in result.layers:
        assert layer.kept == int(result.masks[layer.name].sum()) == int(kept[layer.name])
        assert layer.weights == result.masks[layer.name].numel()
    assert sum(layer.weights for layer in result.layers) == result.record.prunable == size
    assert result.record.solver == solver
    assert (result.objective is None) == (not SOLVERS[solver].curvatures)
    assert result.record.status in set(Status)


def test_exact_counts_and_a_record_that_agrees(calibration, subtests):
    for solver, name in in_turn(BY_GRADIENTS, NETWORKS):
        with subtests.test(solver=solver, network=name):
            model = chita.load_model(name)
            options = {"fisher": chita.Fisher(samples=60), "quadratic": chita.Quadratic(ridge=0.1)}
            result = chita.prune(model, calibration, sparsity=0.9, solver=QUICK[solver], **options)
            assert_exact(model, result, solver)


@pytest.mark.slow
def test_exact_counts_of_every_solver_on_either_network(calibration, subtests):
    for solver, name in itertools.product(BY_GRADIENTS, NETWORKS):
        with subtests.test(solver=solver, network=name):
            model = chita.load_model(name)
            result = chita.prune(
                model,
                calibration,
                sparsity=0.9,
                solver=solver,
                fisher=chita.Fisher(samples=100),
                quadratic=chita.Quadratic(ridge=0.1 if solver == "cd" else "auto"),  # slow at many
            )
            assert_exact(model, result, solver)


def test_the_objective_is_q_of_the_gradients_that_were_used(calibration):
    """The whole path against dense algebra: gradients by backward, H formed."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    data = (calibration.batch[0][:80].double(), calibration.batch[1][:80])
    result = chita.prune(
        model,
        data,
        budget=chita.Nonzeros(100),
        fisher=chita.Fisher(samples=20, samples_per_gradient=2, weighting="empirical"),
        quadratic=chita.Quadratic(ridge="0.5x", first_order=0.5, step_size=1),
        validation=0,
    )
    rows = []
    for inputs, targets in make_sampler(data, seed=0).draw(40).batches(2):
        model.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        rows.append(model[1].weight.grad.reshape(-1).clone())
    rows = torch.stack(rows)
    ridge = 0.5 * float((rows**2).mean())
    assert result.record.ridge == pytest.approx(ridge, rel=1e-9)
    assert (result.record.samples, result.record.samples_per_gradient) == (20, 2)
    dense = DenseProblem(rows, model[1].weight.detach().reshape(-1), ridge, 0.5)
    weights = result.model[1].weight.detach().reshape(-1)
    assert result.objective == pytest.approx(dense.value(weights), rel=1e-9)


@pytest.mark.parametrize("solver", EITHER)
def test_a_copy_is_pruned_unless_inplace_and_flags_come_back(calibration, solver):
    model = chita.load_model("digits-cnn")
    model.train()
    model.bn2.eval()
    flags = [m.training for m in model.modules()]
    before = state_of(model)
    options = {"sparsity": 0.9, "solver": solver, "fisher": chita.Fisher(samples=50)}
    result = chita.prune(model, calibration, **options)
    assert same(state_of(model), before)
    assert [m.training for m in model.modules()] == flags
    assert [m.training for m in result.model.modules()] == flags
    assert result.model is not model
    again = chita.prune(model, calibration, **options, inplace=True)
    assert again.model is model
    assert same(state_of(model), state_of(result.model))
    norms = {f"{n}.{b}" for n in ("bn1", "bn2", "bn3") for b, _ in model.bn1.named_buffers()}
    outside = [n for n in before if n not in {*result.masks, *norms}]
    assert all(torch.equal(before[n], model.state_dict()[n]) for n in outside)


def test_an_error_leaves_an_inplace_network_as_it_was(calibration):
    model = chita.load_model("digits-mlp")
    before = state_of(model)
    broken = (calibration.batch[0], calibration.batch[1] + 5)
    with pytest.raises(InputError, match="10 classes"):
        chita.prune(model, broken, sparsity=0.5, fisher=chita.Fisher(samples=1000), inplace=True)
    assert same(state_of(model), before)


@pytest.mark.parametrize(
    ("solver", "quadratic"),
    [
        ("bso", chita.Quadratic()),
        ("chita", GIVEN["quadratic"]),
        pytest.param("chita", chita.Quadratic(), marks=pytest.mark.slow),
    ],
    ids=["tuned", "given", "default"],
)
def test_same_seed_same_bits_another_seed_other_samples(calibration, solver, quadratic):
    model = chita.load_model("digits-mlp")
    options = {"sparsity": 0.9, "solver": solver, "quadratic": quadratic}
    runs = [
        chita.prune(model, calibration, **options, fisher=chita.Fisher(samples=200), seed=s)
        for s in (1, 1, 2)
    ]
    assert same(state_of(runs[0].model), state_of(runs[1].model))
    assert runs[0].record.data_hash == runs[1].record.data_hash != runs[2].record.data_hash
    assert not same(state_of(runs[0].model), state_of(runs[2].model))


def test_a_solver_may_be_an_object_with_options(calibration):
    model = chita.load_model("digits-mlp")
    result = chita.prune(
        model,
        calibration,
        budget=chita.Nonzeros(500),
        fisher=chita.Fisher(samples=50),
        solver=chita.solvers.IHT(max_iterations=3),
    )
    assert (result.record.solver, result.record.options["max_iterations"]) == ("iht", 3)
    assert result.record.nnz == 500


def test_a_network_that_cannot_be_copied_can_be_pruned_itself(calibration):
    model = chita.load_model("digits-mlp")
    model.register_buffer("view", model.fc1.weight * 1)  # no leaf: deepcopy refuses it
    with pytest.raises(InputError, match="inplace=True"):
        chita.prune(model, budget=chita.Nonzeros(50), solver="magnitude")
    found = chita.prune(model, budget=chita.Nonzeros(50), solver="magnitude", inplace=True)
    assert found.record.nnz == 50


def test_what_is_already_sparse_stays_as_it_is_and_takes_no_time(calibration):
    """Fewer non-zeros than the budget: Q = 0 at w̄, and nothing is left to gain."""
    model = chita.load_model("digits-mlp")
    chita.prune(model, budget=chita.Nonzeros(500), solver="magnitude", inplace=True)
    for solver in ("bso", "iht", "chita"):
        result = chita.prune(
            model,
            calibration,
            budget=chita.Nonzeros(1000),
            fisher=chita.Fisher(samples=100),
            solver=solver,
            quadratic=chita.Quadratic(first_order=0),
        )
        assert result.objective < 1e-9
        assert result.record.iterations < 20
        assert result.record.nnz == 1000


def test_options_are_checked_by_name_and_type():
    assert make_solver("iht", {"max_iterations": "7"}).max_iterations == 7
    assert make_solver("chita", {"tolerance": 0}).tolerance == 0
    with pytest.raises(InputError, match="Did you mean max_rounds"):
        make_solver("chita", {"max_round": 3})
    for value in ("x", "1.5", float("inf"), None):
        with pytest.raises(InputError, match=r"max_rounds is .*give a whole number"):
            make_solver("chita", {"max_rounds": value})


def test_a_relative_ridge_is_a_multiple_of_the_mean_diagonal():
    curvature = GradientGram(DenseRows(torch.tensor([[1.0, 1.0], [2.0, 0.0]])))  # diagonal 1 and 2
    for given, expected in (("0.1x", 0.15), (0.1, 0.1), ("0.1", 0.1), (0, 0.0)):
        assert Ridge.parse(given).of(curvature) == pytest.approx(expected)


@pytest.mark.data
@pytest.mark.parametrize(
    ("budget", "kept", "accuracy"),
    [
        (chita.Nonzeros(3235), 3235, 90.30),
        (chita.Nonzeros(1618), 1618, 83.64),
        (chita.Nonzeros(647), 647, 32.25),
        (chita.Sparsity(0.9), 3236, 90.28),
    ],
)
def test_published_magnitude_accuracies_to_two_decimals(data_dir, budget, kept, accuracy):
    model = chita.load_model("mlpnet", data_dir / "checkpoints" / "mlpnet_mnist.safetensors")
    _, test = load_dataset("mnist", data_dir)
    assert round(chita.evaluate(model, test).value, 2) == 93.97
    pruned = chita.prune(model, solver="magnitude", budget=budget).model
    assert round(chita.evaluate(pruned, test).value, 2) == accuracy
    assert int(read_weights(pruned, prunable_layout(pruned)).count_nonzero()) == kept


@pytest.mark.slow
def test_wrappers_are_taken_off_and_the_network_inside_is_pruned(calibration):
    model = chita.load_model("digits-mlp")
    plain = chita.prune(model, calibration, sparsity=0.9, fisher=chita.Fisher(samples=50))
    compiled = partial(torch.compile, backend="eager")
    for wrap in (nn.DataParallel, torch.optim.swa_utils.AveragedModel, compiled):
        found = chita.prune(wrap(model), calibration, sparsity=0.9, fisher=chita.Fisher(samples=50))
        assert type(found.model) is type(model)
        assert same(state_of(found.model), state_of(plain.model))
    model.fc1.compile(backend="eager")  # in place: a compiled call inside the network
    found = chita.prune(model, calibration, sparsity=0.9, fisher=chita.Fisher(samples=50))
    assert same(state_of(found.model), state_of(plain.model))

    def never(graph, inputs):
        raise AssertionError("compiled code was asked for")

    model = chita.load_model("digits-mlp")
    model.fc2.compile(backend=never)
    found = chita.prune(
        model, calibration, sparsity=0.9, fisher=chita.Fisher(samples=50), inplace=True
    )
    assert same(state_of(found.model), state_of(plain.model))
    with pytest.raises(InputError, match=r"a str; give a torch\.nn\.Module"):
        chita.prune("digits-mlp", calibration, sparsity=0.9)


def test_weights_that_are_not_finite_are_refused_by_name(calibration):
    model = chita.load_model("digits-mlp")
    with torch.no_grad():
        model.fc2.weight[0, 0] = float("nan")
        model.fc3.weight[0, 0] = float("inf")
    for solver in ("chita", "magnitude"):
        with pytest.raises(InputError, match=r"infinite values in: fc2\.weight, fc3\.weight"):
            chita.prune(model, calibration, sparsity=0.9, solver=solver)


def test_regression_and_segmentation_work_as_classification_does():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 6, generator=generator)
    y = torch.sin(x[:, :2])
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(300):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    errors = {}
    for solver in ("magnitude", "chita"):
        pruned = chita.prune(
            model, (x, y), sparsity=0.5, fisher=chita.Fisher(samples=50), loss="mse", solver=solver
        )
        errors[solver] = chita.evaluate(pruned.model, (x, y), loss="mse").value
    assert errors["chita"] < errors["magnitude"]
    pixels = nn.Conv2d(3, 4, 3, padding=1)
    images, classes = torch.randn(8, 3, 5, 5), torch.randint(4, (8, 5, 5))
    result = chita.prune(
        pixels, (images, classes), budget=chita.Nonzeros(50), fisher=chita.Fisher(samples=6)
    )
    assert result.record.loss == "cross_entropy"
    assert chita.evaluate(result.model, (images, classes)).metric == "pixel accuracy, per cent"


def test_labels_of_the_model_need_none_in_the_data_and_follow_the_seed(calibration):
    model = chita.load_model("digits-mlp")
    inputs = calibration.batch[0]
    options = {"sparsity": 0.9, "solver": "bso"}
    results = [
        chita.prune(
            model,
            (inputs, None),
            **options,
            fisher=chita.Fisher(samples=50, labels="model"),
            seed=seed,
        )
        for seed in (0, 0, 1)
    ]
    assert results[0].objective == results[1].objective != results[2].objective
    assert results[0].record.settings["labels"] == "model"
    given = chita.prune(model, calibration, **options, fisher=chita.Fisher(samples=50))
    assert given.objective != results[0].objective
    with pytest.raises(InputError, match='labels="model"'):
        chita.prune(model, (inputs, None), **options, fisher=chita.Fisher(samples=50))


def test_a_record_says_what_was_asked(calibration):
    model = chita.load_model("digits-mlp")
    result = chita.prune(
        model,
        calibration,
        budget=chita.Nonzeros(500, min_keep=2),
        fisher=chita.Fisher(samples=30),
        ignore=["fc3"],
        quadratic=chita.Quadratic(ridge=0.01),
        seed=4,
    )
    asked = result.record.settings
    assert (asked["nnz"], asked.get("sparsity"), asked["ignore"], asked["min_keep"]) == (
        *(500, None, ["fc3"], 2),
    )
    assert (asked["ridge"], asked["seed"], asked["samples"]) == (0.01, 4, 30)
    assert (result.record.command, result.record.seed, result.record.loss) == (
        *("prune", 4, "cross_entropy"),
    )
    few = chita.Fisher(samples=3)
    named = chita.prune(model, calibration, budget=chita.Nonzeros(500), fisher=few, loss=own_loss)
    assert named.record.settings["loss"] == named.record.loss == "own_loss"


def own_loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def test_vanishing_gradients_have_no_multiple_for_a_ridge(calibration):
    model = chita.load_model("digits-mlp")

    def tiny(model, batch):
        return own_loss(model, batch) * 1e-30

    with pytest.raises(chita.NumericalError, match="squares vanish"):
        chita.prune(
            model,
            calibration,
            budget=chita.Nonzeros(500),
            fisher=chita.Fisher(samples=20),
            loss=tiny,
        )


def test_solver_options_given_in_python_are_checked():
    for bad in ({"max_iterations": 2.5}, {"tolerance": "x"}, {"lipschitz": float("nan")}):
        with pytest.raises(InputError, match=next(iter(bad))):
            chita.solvers.IHT(**bad)
    assert make_solver("iht", {"lipschitz": "none"}).lipschitz is None
    assert make_solver("iht", {"lipschitz": "2.5"}).lipschitz == 2.5
