"""The problem of a stage, its Fisher in full or by outputs, against dense algebra."""

import pytest
import torch

import chita
from chita.constraints import KeepK
from chita.data.digits import digits
from chita.errors import InputError
from chita.layout import Axes, Layout
from chita.models.prunable import prunable_layout, read_weights
from chita.problem import BlockGram, DenseRows, GradientGram
from chita.progress import Silent
from chita.pruning.calibration import Calibration, Sampling
from chita.pruning.config import FULL, OUTPUTS
from chita.pruning.stage_problem import StageProblem
from chita.pruning.tuning import settle
from chita.solvers import CHITA, WoodFisher

LAYOUT = Layout(
    names=("a", "b", "c"),
    shapes=((3, 2, 2), (5,), (2, 4)),
    axes=(Axes(), Axes(), Axes(output=1, input=0)),
)
ENDS = [4, 8, 12, 17, 25]  # every output of a; b and c whole


def stage(k=25, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(6, 25, generator=generator, dtype=torch.float64)
    a += 0.5 * torch.randn(6, 1, generator=generator).double()  # of one sign over many weights
    a *= torch.logspace(-1, 0.5, 25)[torch.randperm(25, generator=generator)]
    w_bar = torch.randn(25, generator=generator, dtype=torch.float64)
    output_norms = torch.rand(6, generator=generator, dtype=torch.float64)
    rows, constraint = DenseRows(a.T.contiguous()), KeepK(size=25, k=k)
    return StageProblem(w_bar, rows, output_norms, LAYOUT, constraint), a, output_norms


def test_the_blocks_of_a_structure_are_the_outputs_of_tensors_that_have_outputs_first():
    assert [output.stop for output in LAYOUT.outputs] == ENDS
    found, a, _ = stage()
    assert isinstance(found.fisher(FULL), GradientGram)
    assert isinstance(found.fisher(OUTPUTS), BlockGram)
    assert found.fisher(OUTPUTS) is found.fisher(OUTPUTS)
    block = found.fisher(OUTPUTS).block(torch.arange(25))
    where = torch.searchsorted(torch.tensor(ENDS), torch.arange(25), right=True)
    same = where.unsqueeze(1) == where
    assert torch.allclose(block, torch.where(same, a.T @ a / 6, 0.0))


def test_what_a_change_does_is_predicted_by_the_gradients_themselves():
    found, a, output_norms = stage()
    weights = found.w_bar * (torch.rand(25) > 0.5)
    gradients, change = a * output_norms.unsqueeze(1), weights - found.w_bar
    total, increases = found.predicted(weights)
    fisher = gradients.T @ gradients / 6
    assert total == pytest.approx(
        float(gradients.mean(0) @ change + 0.5 * change @ fisher @ change), rel=1e-9
    )
    assert list(increases) == ["a", "b", "c"]
    for name, at in LAYOUT:
        expected = 0.5 * float(change[at] @ fisher[at, at] @ change[at])
        assert increases[name] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("k", [25, 12])
@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_the_first_order_term_of_blocks_goes_to_the_minimum_of_the_whole_along_their_step(k, ridge):
    found, a, output_norms = stage(k)
    whole = a.T @ a / 6 + ridge * torch.eye(25).double()
    gradient = a.T @ output_norms / 6
    worth = whole.diagonal() * found.w_bar**2
    support = worth.topk(k).indices.sort().values
    assert torch.equal(found.support(ridge), support)
    blocks = found.fisher(OUTPUTS).block(torch.arange(25)) + ridge * torch.eye(25).double()
    step = -torch.linalg.solve(blocks[support][:, support], gradient[support])
    along = torch.linspace(0, 1.2, 100_001).double()
    bend = step @ whole[support][:, support] @ step
    share = float(along[(along * (gradient[support] @ step) + along**2 * bend / 2).argmin()])
    assert 0.01 < share < 0.99
    for scale in (1.0, 0.5, -0.25):
        problem = found.quadratic(OUTPUTS, ridge, scale)
        assert torch.allclose(problem.gradient, scale * share * gradient, rtol=1e-3)
    factor = found.fisher(OUTPUTS).factor(support)
    assert torch.allclose(
        found.first_order_step(OUTPUTS, ridge, support, factor), share * step, rtol=1e-3
    )
    plain = found.quadratic(FULL, ridge, 0.5)
    assert torch.allclose(plain.gradient, 0.5 * gradient)
    assert not found.quadratic(OUTPUTS, ridge, 0.0).shift.any()


def test_a_network_refitted_by_outputs_is_the_best_of_every_output_by_itself():
    model = chita.load_model("digits-mlp")
    calibration, _ = digits()
    layout = prunable_layout(model)
    w_bar = read_weights(model, layout)
    mask = w_bar.abs() > w_bar.abs().quantile(0.8)
    quadratic = chita.Quadratic(ridge=0.01, first_order=0, step_size=1)
    options = {"quadratic": quadratic, "validation": 0}
    found, plain = (
        chita.refit(model, calibration, layout.unflatten(mask), fisher=fisher, **options)
        for fisher in (chita.Fisher(samples=40, structure="outputs"), chita.Fisher(samples=40))
    )
    assert found.record.stages[0].structure == "outputs"
    assert plain.record.stages[0].structure == "full"
    a = rows_of(model, layout, calibration, 40)
    weights, expected = read_weights(found.model, layout).double(), w_bar.double().clone()
    expected[~mask] = 0
    for output in layout.outputs:
        index = torch.arange(output.start, output.stop)
        kept, removed = index[mask[index]], index[~mask[index]]
        if len(kept):
            h = a[:, index].T @ a[:, index] / 40
            own, rest = kept - output.start, removed - output.start
            pull = h[own][:, rest] @ w_bar[removed].double()
            system = h[own][:, own] + 0.01 * torch.eye(len(kept)).double()
            expected[kept] += torch.linalg.solve(system, pull)
    assert torch.allclose(weights, expected, rtol=1e-3, atol=1e-5)
    assert not torch.allclose(read_weights(plain.model, layout).double(), expected, atol=1e-3)


def rows_of(model, layout, calibration, count):
    """The gradients of a run with seed 0 and no validation samples."""
    sampling = Sampling(fisher=chita.Fisher(samples=count), validation=0)
    samples = Calibration(sampling, calibration, model.eval(), layout, validated=False)
    _, found = samples.collect(samples.draw(), 0, Silent())
    return found.rows.gather(torch.arange(layout.size)).T.double()


def validated(model, calibration, **options):
    """The validation losses of runs with either structure and of one that chooses; the latter."""
    options |= {"validation": 200, "solver": "bso"}
    runs = {}
    for structure in (FULL, OUTPUTS, "auto"):
        fisher = chita.Fisher(samples=60, structure=structure)
        found = chita.prune(model, calibration, fisher=fisher, **options)
        runs[structure] = found.record.stages[0]
    return {structure: run.validation_loss for structure, run in runs.items()}, runs["auto"]


@pytest.mark.parametrize(("sparsity", "better"), [(0.8, OUTPUTS), (0.95, FULL)])
def test_in_one_shot_the_structure_is_that_of_the_better_network(sparsity, better):
    model = chita.load_model("digits-mlp")
    losses, found = validated(model, digits()[0], sparsity=sparsity)
    assert losses[better] < 0.998 * losses[FULL if better == OUTPUTS else OUTPUTS]
    assert found.structure == better
    assert {trial.structure for trial in found.trials} == {FULL, OUTPUTS}
    tried = [trial for trial in found.trials if trial.structure == better]
    # bso has no brief form: what decided is what was done then
    assert [trial.loss for trial in tried].count(found.validation_loss) == 2
    assert better == FULL or found.validation_loss == min(trial.loss for trial in tried)


def test_what_cannot_be_is_refused():
    with pytest.raises(
        InputError, match="`structure` is '2000'; give one of 'auto', 'full', 'outp"
    ):
        chita.Fisher(structure="2000")
    with pytest.raises(InputError, match="woodfisher takes the Fisher in full"):
        settle(chita.Quadratic(), OUTPUTS, WoodFisher())
    given = chita.Quadratic(ridge=0.1)
    assert settle(chita.Quadratic(), FULL, WoodFisher())[1] == FULL
    assert settle(given, "auto", CHITA()) == (given, FULL)
    assert settle(given, OUTPUTS, CHITA()) == (given, OUTPUTS)
    model = chita.load_model("digits-mlp")
    with pytest.raises(InputError, match="takes no `structure`"):
        chita.prune(
            model,
            digits()[0],
            sparsity=0.5,
            solver="bso",
            layerwise=True,
            fisher=chita.Fisher(structure="outputs"),
        )
