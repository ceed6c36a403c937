"""Where the real data lie, and which tests used them."""

import os
from pathlib import Path

import pytest
import torch

# On a busy machine threads wait for each other, up to a hundred times longer than they work.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # and so in the programs that tests start
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the network for anything

NEEDS_DATA = "needs real data"
DATA_TESTS: dict[str, str] = {}


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder named by CHITA_DATA (MNIST, checkpoints)."""
    return Path(os.environ["CHITA_DATA"])


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("data"):
            item.user_properties.append((NEEDS_DATA, True))
            if "CHITA_DATA" not in os.environ:
                item.add_marker(pytest.mark.skip(reason="CHITA_DATA names no folder of data"))


def pytest_runtest_logreport(report):
    needs = any(name == NEEDS_DATA for name, _ in report.user_properties)
    if needs and (report.when == "call" or not report.passed):
        DATA_TESTS[report.nodeid] = report.outcome


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("tests that need real data")
    for test, outcome in sorted(DATA_TESTS.items()):
        terminalreporter.write_line(f"{outcome}: {test}")
    ran = sum(outcome in ("passed", "failed") for outcome in DATA_TESTS.values())
    terminalreporter.write_line(f"{ran} of {len(DATA_TESTS)} ran")


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)
