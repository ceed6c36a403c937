"""Tiers of tests, where the real data lie, and which tests used them.

Units are all that is not listed here, without a marker `slow`, `gpu` or `data`: `make test`.
`INTEGRATION` and what needs real data are `make test-integration`; `make test-all` runs everything.
"""

import os
from pathlib import Path

import pytest
import torch

# On a busy machine threads wait for each other, up to a hundred times longer than they work.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"  # and so in the programs that tests start
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the network for anything

INTEGRATION = {
    Path(__file__).parent / name
    for name in (
        *(f"tests/{n}" for n in ("cli", "docs", "exports", "families", "progress", "reports")),
        *("tests/runtimes", "tests/masks/test_lightning.py", "tests/masks/test_trainer.py"),
        *("tests/masks/test_adapters.py", "tests/masks/test_clipping.py"),
        *("tests/models/test_hugging_face.py", "tests/models/test_minilm.py"),
        *("tests/test_logger.py", "tests/test_readme.py"),
        *(f"chita/{n}" for n in ("cli", "exports", "progress", "reports", "runtimes")),
        *(f"chita/masks/{n}.py" for n in ("lightning", "lora", "trainer")),
    )
}
"""Folders and files of programs, pages, files of other formats, trainers and browsers."""

if not (torch.cuda.is_available() or torch.backends.mps.is_available()):
    collect_ignore = ["tests/test_accelerators.py"]

NEEDS_DATA = "needs real data"
DATA_TESTS: dict[str, str] = {}


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder named by CHITA_DATA (MNIST, checkpoints)."""
    return Path(os.environ["CHITA_DATA"])


def pytest_ignore_collect(collection_path, config):
    """Units need not even import what the other tiers do."""
    if collection_path in INTEGRATION and "not integration" in config.option.markexpr:
        return True
    return None


def pytest_collection_modifyitems(items):
    for item in items:
        whole = INTEGRATION & {item.path, *item.path.parents}
        if whole or item.get_closest_marker("data"):
            item.add_marker("integration")
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
