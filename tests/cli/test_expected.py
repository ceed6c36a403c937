"""How long the rest of a sweep is expected to take."""

from chita.cli.grid import read_grid
from chita.cli.sweep import expected_seconds


def test_runs_to_come_take_as_long_as_those_most_like_them(tmp_path):
    (tmp_path / "g.toml").write_text(
        '[sweep]\nsolver = ["magnitude", "bso"]\nsparsity = [0.5, 0.9]\nseed = [1, 2]\n'
    )
    runs = {tuple(run.varied.values()): run for run in read_grid(tmp_path / "g.toml")}
    took = [(runs["magnitude", 0.5, 1], 1.0), (runs["magnitude", 0.9, 1], 3.0)]
    bso = runs["bso", 0.5, 1]
    assert expected_seconds(bso, []) == 0
    assert expected_seconds(bso, took) == 1  # it has the same sparsity and seed
    assert expected_seconds(runs["magnitude", 0.5, 2], took) == 1
    assert expected_seconds(bso, [*took, (runs["bso", 0.9, 2], 100.0)]) == 100  # one solver
    assert expected_seconds(runs["bso", 0.9, 2], took) == 3
