"""What a run adds to the process, against `max_memory`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import chita
from chita.errors import InputError
from chita.layout import Axes, Layout
from chita.pruning.room import rows_room

CPU = torch.device("cpu")
LAYOUT = Layout(names=("a", "b"), shapes=((1000, 1000), (50, 20)), axes=(Axes(), Axes()))
RUN = """
import json, sys, torch, chita
from pathlib import Path
from torch import nn

def line(field):
    text = Path("/proc/self/status").read_text()
    return 1024 * int(text.partition(field)[2].split()[0])

torch.manual_seed(0)
layers = [nn.Conv2d(3, 256, 3, padding=1)]
for _ in range(3):
    layers += [nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1)]
model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(256, 10)).eval()
data = torch.randn(60, 3, 8, 8), torch.randint(10, (60,))
options = dict(sparsity=0.9, solver=sys.argv[1], validation=0,
    quadratic=chita.Quadratic(ridge="0.1x", first_order=0.0, step_size=1.0))
few = chita.Fisher(samples=8, structure=sys.argv[2])
chita.prune(model, data, fisher=few, **options)  # loads what PyTorch loads at first use
Path("/proc/self/clear_refs").write_text("5")
before = line("VmRSS:")
fisher = chita.Fisher(samples=60, structure=sys.argv[2])
found = chita.prune(model, data, fisher=fisher, memory=chita.Memory(max_memory=400), **options)
kinds = [layer.backend for layer in found.record.layers]
print(json.dumps([line("VmHWM:") - before, kinds]))
"""


@pytest.mark.integration
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize(("solver", "structure"), [("bso", "full"), ("chita", "outputs")])
def test_a_run_adds_no_more_than_it_may(solver, structure):
    """As a matrix the gradients alone take 425 MB."""
    command = [sys.executable, "-c", RUN, solver, structure]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    added, kinds = json.loads(done.stdout.splitlines()[-1])
    assert added <= 400e6
    assert kinds.count("positioned") == 3


def test_rows_have_what_a_solver_and_batches_leave():
    whole = rows_room(chita.Memory(max_memory=10_000), LAYOUT, 100, 0, CPU)
    assert 9e9 < whole < 10e9
    assert rows_room(chita.Memory(max_memory=10_000), LAYOUT, 100, 3, CPU) == whole // 4
    # A solver has half at most, and batches a quarter.
    assert rows_room(chita.Memory(max_memory=1), LAYOUT, 100, 0, CPU) == 250_000
    assert rows_room(chita.Memory(), LAYOUT, 100, 0, torch.device("cuda")) is None


def test_without_a_limit_half_of_what_is_free_may_be_taken(monkeypatch):
    monkeypatch.setattr("chita.pruning.room.available_memory", lambda: 20_000_000_000)
    given = rows_room(chita.Memory(max_memory=10_000), LAYOUT, 100, 0, CPU)
    assert rows_room(chita.Memory(), LAYOUT, 100, 0, CPU) == given
    monkeypatch.setattr("chita.pruning.room.available_memory", lambda: None)
    assert rows_room(chita.Memory(), LAYOUT, 100, 0, CPU) is None


def test_what_fits_in_no_way_is_refused_with_what_would():
    model = chita.load_model("digits-mlp")
    data = torch.randn(60, 1, 8, 8), torch.randint(10, (60,))
    options = {"sparsity": 0.5, "validation": 0, "solver": "bso"}
    options["quadratic"] = chita.Quadratic(ridge=0.1, first_order=0.0, step_size=1.0)
    small = chita.Memory(max_memory=0.2)
    with pytest.raises(InputError, match=r"60 rows of \d+ weights need .* `samples` to \d+,"):
        chita.prune(model, data, fisher=chita.Fisher(samples=60), memory=small, **options)
    nothing = chita.Memory(max_memory=0)
    with pytest.raises(InputError, match=r"`max_memory`.* Or lower `samples`, keep them"):
        chita.prune(model, data, fisher=chita.Fisher(samples=60), memory=nothing, **options)
