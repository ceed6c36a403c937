from functools import partial

import pytest
import torch
from torch import nn

import chita
from chita.data.digits import digits
from chita.data.sets import load_dataset
from chita.errors import InputError
from chita.models.prunable import prunable_layout, read_weights
from chita.problem import DenseRows, GradientGram
from chita.pruning.pose import Ridge, make_solver
from chita.solvers import SOLVERS, Status
from tests.conformance.table import BY_GRADIENTS
from tests.dense import DenseProblem


@pytest.fixture(scope="module")
def calibration():
    return digits()[0]


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("method", BY_GRADIENTS)
@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn"])
def test_exact_counts_and_a_record_that_agrees(method, name, calibration):
    model, _ = chita.load_model(name)
    options = {"ridge": 0.1} if method == "cd" else {}  # slow where it is tried at many
    result = chita.prune(model, calibration, sparsity=0.9, method=method, rows=100, **options)
    size = prunable_layout(model).size
    kept = {key: result.model.state_dict()[key].count_nonzero() for key in result.masks}
    assert sum(map(int, kept.values())) == result.record.nnz == size - -(-size * 9 // 10)
    for layer in result.layers:
        assert layer.kept == int(result.masks[layer.name].sum()) == int(kept[layer.name])
        assert layer.weights == result.masks[layer.name].numel()
    assert sum(layer.weights for layer in result.layers) == result.record.prunable == size
    assert result.record.method == method
    assert (result.objective is None) == (not SOLVERS[method].curvatures)
    assert result.record.status in set(Status)


def test_the_objective_is_q_of_the_rows_that_were_used(calibration):
    """The whole path against dense algebra: gradients by backward, H formed."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    index = list(range(0, 80, 2))
    inputs, targets = calibration.batch[0].double(), calibration.batch[1]
    result = chita.prune(
        model,
        (inputs, targets),
        nnz=100,
        row_indices=index,
        row_size=2,
        fisher="empirical",
        ridge="0.5x",
        first_order=0.5,
        step=1,
    )
    rows = []
    for pair in torch.tensor(index).split(2):
        model.zero_grad()
        nn.functional.cross_entropy(model(inputs[pair]), targets[pair]).backward()
        rows.append(model[1].weight.grad.reshape(-1).clone())
    rows = torch.stack(rows)
    ridge = 0.5 * float((rows**2).mean())
    assert result.record.ridge == pytest.approx(ridge, rel=1e-9)
    assert (result.record.rows, result.record.row_size) == (20, 2)
    dense = DenseProblem(rows, model[1].weight.detach().reshape(-1), ridge, 0.5)
    weights = result.model[1].weight.detach().reshape(-1)
    assert result.objective == pytest.approx(dense.value(weights), rel=1e-9)


def test_a_copy_is_pruned_unless_inplace_and_flags_come_back(calibration):
    model, _ = chita.load_model("digits-cnn")
    model.train()
    model.bn2.eval()
    flags = [m.training for m in model.modules()]
    before = state_of(model)
    result = chita.prune(model, calibration, sparsity=0.5, rows=50)
    assert same(state_of(model), before)
    assert [m.training for m in model.modules()] == flags
    assert [m.training for m in result.model.modules()] == flags
    assert result.model is not model
    again = chita.prune(model, calibration, sparsity=0.5, rows=50, inplace=True)
    assert again.model is model
    assert same(state_of(model), state_of(result.model))
    norms = {f"{n}.{b}" for n in ("bn1", "bn2", "bn3") for b, _ in model.bn1.named_buffers()}
    outside = [n for n in before if n not in {*result.masks, *norms}]
    assert all(torch.equal(before[n], model.state_dict()[n]) for n in outside)


def test_an_error_leaves_an_inplace_network_as_it_was(calibration):
    model, _ = chita.load_model("digits-mlp")
    before = state_of(model)
    broken = (calibration.batch[0], calibration.batch[1] + 5)
    with pytest.raises(InputError, match="10 classes"):
        chita.prune(model, broken, sparsity=0.5, rows=1000, inplace=True)
    assert same(state_of(model), before)


def test_same_seed_same_bits_another_seed_other_rows(calibration):
    model, _ = chita.load_model("digits-mlp")
    runs = [chita.prune(model, calibration, sparsity=0.9, rows=200, seed=s) for s in (1, 1, 2)]
    assert same(state_of(runs[0].model), state_of(runs[1].model))
    assert runs[0].record.data_hash == runs[1].record.data_hash != runs[2].record.data_hash
    assert not same(state_of(runs[0].model), state_of(runs[2].model))


def test_a_solver_with_options_is_a_method(calibration):
    model, _ = chita.load_model("digits-mlp")
    result = chita.prune(model, calibration, nnz=500, rows=50, method=chita.IHT(max_iterations=3))
    assert (result.record.method, result.record.options["max_iterations"]) == ("iht", 3)
    assert result.record.nnz == 500


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "got none"),
        ({"sparsity": 0.5, "nnz": 3}, "got sparsity and nnz"),
        ({"sparsity": 1.0}, "share of weights removed"),
        ({"nnz": 10**6}, "weights to keep out of"),
        ({"nnz": 5, "method": "chitta"}, "Did you mean chita"),
        ({"nnz": 5, "ridge": "abc"}, "ridge is 'abc'"),
        ({"nnz": 5, "ridge": -1}, "ridge is -1"),
        ({"nnz": 5, "ridge": float("nan")}, "ridge is nan"),
        ({"nnz": 5, "first_order": float("inf")}, "first_order is inf"),
        ({"nnz": 5, "rows": 0}, "rows is 0"),
        ({"nnz": 5, "row_size": 0}, "row_size is 0"),
        ({"nnz": 5, "rows": 10_000}, "need 10000 samples"),
        ({"nnz": 5, "data": None}, "needs calibration data"),
        ({"nnz": 3.7}, "nnz is 3.7"),
        ({"nnz": "5"}, "nnz is '5'"),
        ({"sparsity": "0.9"}, "sparsity is '0.9'"),
        ({"nnz": 5, "rows": 2.5}, "rows is 2.5"),
        ({"nnz": 5, "seed": None}, "seed is None"),
        ({"nnz": 5, "seed": None, "method": "magnitude"}, "seed is None"),
        ({"nnz": 5, "first_order": "one"}, "first_order is 'one'"),
        ({"nnz": 5, "step": -0.1}, "step is -0.1; give a share"),
        ({"nnz": 5, "step": 1.5}, "step is 1.5"),
        ({"nnz": 5, "fisher": "true"}, "fisher is 'true'; give one of auto, improved, empirical"),
        ({"nnz": 5, "held_out": -1}, "held_out is -1"),
        ({"nnz": 5, "stages": 0}, "stages is 0; it is the number of rounds"),
        ({"nnz": 5, "schedule": "expo"}, "Unknown schedule 'expo'. Did you mean exp"),
        ({"sparsity": 0.9, "schedule": (0.5, 0.4, 0.9)}, "goes from 0.5 to 0.4"),
        ({"sparsity": 0.9, "schedule": (0.5, 0.8)}, "ends at sparsity 0.8"),
        ({"sparsity": 0.9, "schedule": (0.5, 0.9), "stages": 3}, "lists 2 sparsities"),
        ({"sparsity": 0.9, "schedule": ()}, r"schedule is \(\); give one of"),
        ({"nnz": 5, "regrow": "no"}, "regrow is 'no'"),
        ({"nnz": 5, "earlier_rows": -1}, "earlier_rows is -1"),
        ({"nnz": 5, "method": chita.CHITA}, "give a name .* or a solver"),
        ({"nnz": 5, "data": 3}, "The data are a int"),
        ({"nnz": 5, "data": [(torch.zeros(()), torch.zeros(()))]}, "DataLoader"),
        ({"nnz": 5, "row_indices": ["a"]}, "no whole number"),
    ],
)
def test_bad_arguments_get_one_message(calibration, arguments, message):
    model, _ = chita.load_model("digits-mlp")
    with pytest.raises(InputError, match=message):
        chita.prune(model, **{"data": calibration, "rows": 20, **arguments})


def test_indices_may_be_of_any_whole_kind(calibration):
    model, _ = chita.load_model("digits-mlp")
    for indices in ([1, 5, 9], range(1, 10, 4), torch.tensor([1, 5, 9])):
        result = chita.prune(model, calibration, nnz=50, row_indices=indices)
        assert result.record.data_hash == calibration.take(torch.tensor([1, 5, 9])).digest()


def test_a_network_that_cannot_be_copied_can_be_pruned_itself(calibration):
    model, _ = chita.load_model("digits-mlp")
    model.register_buffer("view", model.fc1.weight * 1)  # no leaf: deepcopy refuses it
    with pytest.raises(InputError, match="inplace=True"):
        chita.prune(model, nnz=50, method="magnitude")
    assert chita.prune(model, nnz=50, method="magnitude", inplace=True).record.nnz == 50


def test_what_is_already_sparse_stays_as_it_is_and_takes_no_time(calibration):
    """Fewer non-zeros than the budget: Q = 0 at w̄, and nothing is left to gain."""
    model, _ = chita.load_model("digits-mlp")
    chita.prune(model, nnz=500, method="magnitude", inplace=True)
    for method in ("bso", "iht", "chita"):
        result = chita.prune(model, calibration, nnz=1000, rows=100, method=method, first_order=0)
        assert result.objective < 1e-9
        assert result.record.iterations < 20
        assert result.record.nnz == 1000


def test_options_are_checked_by_name_and_type():
    assert make_solver("iht", {"max_iterations": "7"}).max_iterations == 7
    assert make_solver("chita", {"tolerance": 0}).tolerance == 0
    with pytest.raises(InputError, match="Did you mean max_rounds"):
        make_solver("chita", {"max_round": 3})
    for value in ("x", "1.5", float("inf"), None):
        with pytest.raises(InputError, match="takes a whole number"):
            make_solver("chita", {"max_rounds": value})


def test_a_relative_ridge_is_a_multiple_of_the_mean_diagonal():
    curvature = GradientGram(DenseRows(torch.tensor([[1.0, 1.0], [2.0, 0.0]])))  # diagonal 1 and 2
    for given, expected in (("0.1x", 0.15), (0.1, 0.1), ("0.1", 0.1), (0, 0.0)):
        assert Ridge.parse(given).of(curvature) == pytest.approx(expected)


@pytest.mark.data
@pytest.mark.parametrize(
    ("budget", "accuracy"),
    [
        ({"nnz": 3235}, 90.30),
        ({"nnz": 1618}, 83.64),
        ({"nnz": 647}, 32.25),
        ({"sparsity": 0.9}, 90.28),
    ],
)
def test_published_magnitude_accuracies_to_two_decimals(data_dir, budget, accuracy):
    model, _ = chita.load_model("mlpnet", data_dir / "checkpoints" / "mlpnet_mnist.safetensors")
    _, test = load_dataset("mnist", data_dir)
    assert round(chita.evaluate(model, test).value, 2) == 93.97
    pruned = chita.prune(model, method="magnitude", **budget).model
    assert round(chita.evaluate(pruned, test).value, 2) == accuracy
    assert int(read_weights(pruned, prunable_layout(pruned)).count_nonzero()) == budget.get(
        "nnz", 3236
    )


@pytest.mark.slow
def test_wrappers_are_taken_off_and_the_network_inside_is_pruned(calibration):
    model, _ = chita.load_model("digits-mlp")
    plain = chita.prune(model, calibration, sparsity=0.9, rows=50)
    compiled = partial(torch.compile, backend="eager")
    for wrap in (nn.DataParallel, torch.optim.swa_utils.AveragedModel, compiled):
        found = chita.prune(wrap(model), calibration, sparsity=0.9, rows=50)
        assert type(found.model) is type(model)
        assert same(state_of(found.model), state_of(plain.model))
    model.fc1.compile(backend="eager")  # in place: a compiled call inside the network
    found = chita.prune(model, calibration, sparsity=0.9, rows=50)
    assert same(state_of(found.model), state_of(plain.model))

    def never(graph, inputs):
        raise AssertionError("compiled code was asked for")

    model, _ = chita.load_model("digits-mlp")
    model.fc2.compile(backend=never)
    found = chita.prune(model, calibration, sparsity=0.9, rows=50, inplace=True)
    assert same(state_of(found.model), state_of(plain.model))
    with pytest.raises(InputError, match=r"a str; give a torch\.nn\.Module"):
        chita.prune("digits-mlp", calibration, sparsity=0.9)


def test_weights_that_are_not_finite_are_refused_by_name(calibration):
    model, _ = chita.load_model("digits-mlp")
    with torch.no_grad():
        model.fc2.weight[0, 0] = float("nan")
        model.fc3.weight[0, 0] = float("inf")
    for method in ("chita", "magnitude"):
        with pytest.raises(InputError, match=r"infinite values in: fc2\.weight, fc3\.weight"):
            chita.prune(model, calibration, sparsity=0.9, method=method)


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
    for method in ("magnitude", "chita"):
        pruned = chita.prune(model, (x, y), sparsity=0.5, rows=50, loss="mse", method=method)
        errors[method] = chita.evaluate(pruned.model, (x, y), loss="mse").value
    assert errors["chita"] < errors["magnitude"]
    pixels = nn.Conv2d(3, 4, 3, padding=1)
    images, classes = torch.randn(8, 3, 5, 5), torch.randint(4, (8, 5, 5))
    result = chita.prune(pixels, (images, classes), nnz=50, rows=6)
    assert result.record.loss == "cross_entropy"
    assert chita.evaluate(result.model, (images, classes)).metric == "pixel accuracy, per cent"


def test_labels_of_the_model_need_none_in_the_data_and_follow_the_seed(calibration):
    model, _ = chita.load_model("digits-mlp")
    inputs = calibration.batch[0]
    results = [
        chita.prune(model, (inputs, None), sparsity=0.9, rows=50, labels="model", seed=seed)
        for seed in (0, 0, 1)
    ]
    assert results[0].objective == results[1].objective != results[2].objective
    assert results[0].record.settings["labels"] == "model"
    given = chita.prune(model, calibration, sparsity=0.9, rows=50)
    assert given.objective != results[0].objective
    with pytest.raises(InputError, match='labels="model"'):
        chita.prune(model, (inputs, None), sparsity=0.9, rows=50)
    with pytest.raises(InputError, match="labels is 'mine'"):
        chita.prune(model, calibration, sparsity=0.9, labels="mine")


def test_a_record_says_what_was_asked(calibration):
    model, _ = chita.load_model("digits-mlp")
    result = chita.prune(
        model, calibration, nnz=500, rows=30, ignore=["fc3"], min_keep=2, ridge=0.01, seed=4
    )
    asked = result.record.settings
    assert (asked["nnz"], asked["sparsity"], asked["ignore"], asked["min_keep"]) == (
        *(500, None, ["fc3"], 2),
    )
    assert (asked["ridge"], asked["seed"], asked["rows"], asked["row_indices"]) == (
        0.01,
        4,
        30,
        None,
    )
    assert (result.record.command, result.record.seed, result.record.loss) == (
        *("prune", 4, "cross_entropy"),
    )
    named = chita.prune(model, calibration, nnz=500, row_indices=[1, 2, 3], loss=own_loss)
    assert (named.record.seed, named.record.settings["row_indices"]) == (None, 3)
    assert named.record.settings["loss"] == named.record.loss == "own_loss"


def own_loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def test_vanishing_gradients_have_no_multiple_for_a_ridge(calibration):
    model, _ = chita.load_model("digits-mlp")

    def tiny(model, batch):
        return own_loss(model, batch) * 1e-30

    with pytest.raises(chita.NumericalError, match="squares vanish"):
        chita.prune(model, calibration, nnz=500, rows=20, loss=tiny)


def test_solver_options_given_in_python_are_checked():
    for bad in ({"max_iterations": 2.5}, {"tolerance": "x"}, {"lipschitz": float("nan")}):
        with pytest.raises(InputError, match=next(iter(bad))):
            chita.IHT(**bad)
    assert make_solver("iht", {"lipschitz": "none"}).lipschitz is None
    assert make_solver("iht", {"lipschitz": "2.5"}).lipschitz == 2.5
