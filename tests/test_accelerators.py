"""The same run on an accelerator, where there is one."""

import pytest
import torch

import chita
from chita.collect.gradients import collect_gradients
from chita.collect.ways import WAYS
from chita.data.digits import digits
from chita.models.prunable import prunable_layout

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
@pytest.mark.parametrize("way", WAYS)
def test_rows_are_those_of_the_cpu(device, name, way):
    model, _ = chita.load_model(name)
    layout, examples = prunable_layout(model), digits()[0].first(50)
    expected = collect_gradients(model, layout, examples, fastest="loop").rows
    found = collect_gradients(model.to(device), layout, examples.to(device), fastest=way)
    index = torch.arange(layout.size)
    rows = found.rows.gather(index.to(found.rows.device)).cpu()
    assert (rows - expected.gather(index)).norm() <= 1e-4 * expected.gather(index).norm()


@every_device
@pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn"])
@pytest.mark.parametrize("method", ["magnitude", "bso", "iht", "chita"])
def test_a_run_ends_where_it_ends_on_the_cpu(device, name, method):
    model, _ = chita.load_model(name)
    options = {"sparsity": 0.8, "rows": 200, "method": method}
    expected = chita.prune(model, digits()[0], **options)
    found = chita.prune(model.to(device), digits()[0], **options)
    assert found.record.nnz == expected.record.nnz
    assert next(found.model.parameters()).device.type == device
    if method != "magnitude":
        assert found.record.objective == pytest.approx(expected.record.objective, rel=0.02)
