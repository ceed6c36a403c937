"""Every family: exact counts, a file that any loader opens, and the table in docs/."""

import re
from pathlib import Path

import pytest
import torch

import chita
from tests.families import FAMILIES
from tests.families.table import HEAD, ROWS, SPARSITY, round_trip, row

PAGE = (Path(__file__).parent.parent.parent / "docs" / "networks.md").read_text()
REFUSED = {"weight-norm": "hidden"}
PRUNED = [name for name in FAMILIES if name not in REFUSED]


@pytest.mark.parametrize("name", PRUNED)
def test_pruned_saved_and_loaded_elsewhere_gives_equal_outputs(name, tmp_path):
    result, equal = round_trip(name, tmp_path / "run")
    assert equal
    dense = FAMILIES[name].build().state_dict()
    pruned = result.model.state_dict()
    kept = {key: int(pruned[key].count_nonzero()) for key in result.masks}
    assert sum(kept.values()) == result.record.nnz
    assert result.record.nnz == int(result.record.prunable * 3 / 10)
    assert all(kept[layer.name] == layer.kept >= 1 for layer in result.layers)
    changed = {key for key in dense if not torch.equal(dense[key], pruned[key])}
    tied = {key for key in pruned if any(pruned[key] is pruned[other] for other in result.masks)}
    statistics = {key for key in dense if re.search(r"running_|num_batches", key)}
    assert changed - statistics <= {*result.masks, *tied}
    assert set(result.masks) <= changed


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_the_name_of_the_module_and_pruned_without_it(name):
    family = FAMILIES[name]
    with pytest.raises(chita.InputError, match=f"weight of {REFUSED[name]} is computed"):
        chita.prune(
            family.build(), family.data(), sparsity=SPARSITY, fisher=chita.Fisher(samples=ROWS)
        )
    ignored = chita.prune(
        family.build(),
        family.data(),
        sparsity=SPARSITY,
        fisher=chita.Fisher(samples=ROWS),
        ignore=REFUSED[name],
    )
    assert not any(layer.name.startswith(REFUSED[name]) for layer in ignored.layers)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.slow
def test_the_page_says_so(name):
    assert HEAD in PAGE
    assert row(name) in PAGE.splitlines()


def test_the_page_lists_every_family_once():
    assert re.findall(r"^\| ([\w-]+) \|", PAGE, re.MULTILINE) == ["network", *FAMILIES]
