"""Sweeps: every combination once, a line for each, and what stops them."""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

import pytest

import chita
from chita.cli.grid import read_grid
from chita.data.digits import digits
from chita.errors import InputError
from chita.reports.accuracy import as_markdown, make_table, row_of
from tests.cli.refusals import refused
from tests.program import chita as invoke

GRID = """
samples = 60
[sweep]
solver = ["bso"]
sparsity = [0.5, 0.9]
seed = [1, 2]
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def lines():
    with pathlib.Path("r.jsonl").open() as file:
        return [json.loads(line) for line in file]


@pytest.mark.slow
def test_a_sweep_does_every_run_once_and_goes_on_where_it_stopped(tmp_path):
    (tmp_path / "g.toml").write_text(GRID)
    arguments = ["sweep", "g.toml", "--out", "r.jsonl", "--table", "t.md", "--plot", "p.png"]
    done = invoke(*arguments)
    assert done.exit_code == 0, done.output
    found = lines()
    varied = {(r["run"]["solver"], r["run"]["sparsity"], r["run"]["seed"]) for r in found}
    assert len(found) == len(varied) == 4
    model = chita.load_model("digits-mlp")
    calibration, evaluation = digits()
    line = next(r for r in found if r["run"] == {"solver": "bso", "sparsity": 0.9, "seed": 2})
    fisher = chita.Fisher(samples=60)
    result = chita.prune(model, calibration, sparsity=0.9, seed=2, solver="bso", fisher=fisher)
    assert line["accuracy"] == chita.evaluate(result.model, evaluation).value
    at = [r["accuracy"] for r in found if (r["solver"], r["run"]["sparsity"]) == ("bso", 0.9)]
    cell = f"{statistics.fmean(at):.2f} ± {statistics.stdev(at):.2f}"
    assert cell in (tmp_path / "t.md").read_text()
    assert cell in done.stdout
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")

    kept = (tmp_path / "r.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "r.jsonl").write_text("".join(kept[:3]) + kept[3][:50])  # killed in a line
    again = invoke(*arguments)
    assert again.exit_code == 0, again.output
    assert "3 of 4 runs are done" in again.stderr
    assert len(lines()) == 4
    assert {r["run"]["seed"] for r in lines()} == {1, 2}


@pytest.mark.slow
def test_memory_is_that_of_each_run(tmp_path):
    """A run of many samples leaves no trace in the next one's peak; options are told one by one."""
    (tmp_path / "g.toml").write_text(
        'model = "digits-mlp"\nsparsity = 0.5\nweighting = "empirical"\nridge = 0.1\n'
        '[[sweep]]\nsolver = ["mfac"]\noptions = [{ update = false }]\nsamples = [800]\n'
        '[[sweep]]\nsolver = ["magnitude"]\n'
    )
    arguments = ["sweep", "g.toml", "--out", "r.jsonl", "--table", "t.md", "--jobs", "1"]
    done = invoke(*arguments)
    assert done.exit_code == 0, done.output
    large, small = lines()
    assert large["peak_rss_mb"] > small["peak_rss_mb"] + 20
    table = (tmp_path / "t.md").read_text()
    assert "| mfac, samples 800, update False | " in table
    memory = table.partition("Peak memory")[2]
    assert f"| magnitude | {small['peak_rss_mb']:.0f} |" in memory
    unknown = as_markdown(make_table([{**line, "peak_rss_mb": None} for line in lines()]))
    assert "memory" not in unknown


@pytest.mark.slow
def test_the_dense_network_is_measured_once(tmp_path):
    """The first line serves the others, where network and data are the same."""
    (tmp_path / "g.toml").write_text(
        'solver = "magnitude"\n[[sweep]]\nsparsity = [0.5, 0.6]\n'
        '[[sweep]]\nmodel = ["digits-cnn"]\nsparsity = [0.5]\n'
    )
    arguments = ["sweep", "g.toml", "--out", "r.jsonl", "--jobs", "1"]
    assert invoke(*arguments).exit_code == 0
    first, second, other = lines()
    assert first["dense_metric"] == second["dense_metric"] == 98.6
    assert other["dense_metric"] == 99.2
    (tmp_path / "r.jsonl").write_text(json.dumps({**first, "dense_metric": 12.5}) + "\n")
    assert invoke(*arguments).exit_code == 0
    assert [line["dense_metric"] for line in lines()] == [12.5, 12.5, 99.2]


@pytest.mark.slow
def test_a_grid_with_a_name_is_told_by_it(tmp_path):
    (tmp_path / "g.toml").write_text(
        "samples = 60\nsparsity = 0.5\n"
        '[[sweep]]\nname = "as published"\nsolver = ["obd", "bso"]\nridge = [0.5]\n'
        '[[sweep]]\nname = "automatic"\nsolver = ["bso"]\nsamples-per-gradient = [1, 2]\n'
    )
    done = invoke("sweep", "g.toml", "--out", "r.jsonl", "--table", "t.md")
    assert done.exit_code == 0, done.output
    told = [
        line.split("|")[1].strip() for line in (tmp_path / "t.md").read_text().splitlines()[4:8]
    ]
    assert told == [
        "obd, as published",
        "bso, as published",
        "bso, automatic, samples_per_gradient 1",
        "bso, automatic, samples_per_gradient 2",
    ]
    assert [line["ridge"] for line in lines()[:2]] == [0.5, 0.5]
    (tmp_path / "g.toml").write_text(
        "samples = 60\nsparsity = 0.5\n"
        '[[sweep]]\nname = "a"\nsolver = ["bso"]\nridge = [0.5]\n'
        '[[sweep]]\nname = "a"\nsolver = ["bso"]\nridge = [5.0]\n'
    )
    assert "differ in ridge" in refused("sweep", "g.toml", "--out", "s.jsonl")
    (tmp_path / "g.toml").write_text(
        'samples = 60\n[sweep]\nname = "a [/b] | c"\nsolver = ["magnitude"]\nsparsity = [0.5]\n'
    )
    done = invoke("sweep", "g.toml", "--out", "s.jsonl", "--table", "t.md")
    assert "magnitude, a [/b] | c" in done.stdout
    assert "| magnitude, a [/b] \\| c | " in (tmp_path / "t.md").read_text()
    (tmp_path / "g.toml").write_text("[sweep]\nname = 3\nsparsity = [0.5]\n")
    assert "give a text" in refused("sweep", "g.toml", "--out", "r.jsonl")


def running(process):
    """Whether a process is there, and no zombie."""
    try:
        return "\nState:\tZ" not in pathlib.Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


OWN = """
import pathlib, time

def network():
    pathlib.Path("began").touch()
    time.sleep(600)
"""


@pytest.fixture
def sweeping(tmp_path):
    """A sweep whose one run never ends, and the processes that it began."""
    (tmp_path / "slow.py").write_text(OWN)
    text = 'model = "slow:network"\ndata = "digits"\n[sweep]\nsparsity = [0.5]\n'
    (tmp_path / "g.toml").write_text(text)
    arguments = [sys.executable, "-m", "chita", "sweep", "g.toml", "--out", "r.jsonl"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as parent:
        while not (tmp_path / "began").exists():
            assert parent.poll() is None, parent.stderr.read()
            time.sleep(0.1)
        listed = pathlib.Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
        commands = {int(c): pathlib.Path(f"/proc/{c}/cmdline").read_bytes() for c in listed}
        yield parent, [child for child, command in commands.items() if b"spawn_main" in command]
        parent.kill()


linux = pytest.mark.skipif(not pathlib.Path("/proc/self/task").exists(), reason="needs /proc")


@linux
@pytest.mark.slow
def test_nothing_runs_on_when_a_sweep_is_killed(sweeping):
    parent, children = sweeping
    parent.kill()
    end = time.monotonic() + 20
    while time.monotonic() < end and any(map(running, children)):
        time.sleep(0.1)
    left = [child for child in children if running(child)]
    for child in left:
        os.kill(child, signal.SIGKILL)
    assert children
    assert not left


@linux
def test_a_killed_run_is_one_clear_error(sweeping):
    parent, children = sweeping
    for child in children:
        os.kill(child, signal.SIGKILL)
    assert parent.wait(60) == 2
    told = parent.stderr.read()
    assert "A process of the sweep was killed" in told
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_run_that_fails_is_told_and_the_others_are_kept(tmp_path):
    (tmp_path / "g.toml").write_text("sparsity = 0.9\n[sweep]\nsamples = [60, 100000]\n")
    done = invoke("sweep", "g.toml", "--out", "r.jsonl")
    told = done.stderr
    assert done.exit_code == 2
    assert "1 of 2 runs failed. The first: " in told
    assert "need 100000 samples" in told
    assert [("error" in line) for line in lines()].count(True) == 1
    (tmp_path / "g.toml").write_text("sparsity = 0.9\n[sweep]\nsamples = [60]\n")
    assert invoke("sweep", "g.toml", "--out", "r.jsonl").exit_code == 0
    assert len(lines()) == 2


@pytest.mark.slow
def test_several_grids_are_one_table_and_one_budget_is_drawn_against_time(tmp_path):
    one = '[[sweep]]\nsolver = ["magnitude"]\nsparsity = [0.5]\n'
    (tmp_path / "g.toml").write_text(f"samples = 60\n{one}")
    arguments = ["sweep", "g.toml", "--out", "r.jsonl"]
    assert invoke(*arguments).exit_code == 0
    two = '[[sweep]]\nsamples-per-gradient = [1, 2]\nsolver = ["bso"]\nsparsity = [0.5]\n'
    two += "seed = [0, 1]\n"
    again = one.replace("sparsity = [0.5]", "stages = [1]\nsparsity = [0.5]")
    (tmp_path / "g.toml").write_text(f"samples = 60\n{one}{two}{one}{again}")
    done = invoke(*arguments, "--table", "t.md", "--plot", "p.svg")
    assert done.exit_code == 0, done.output
    assert "1 of 6 runs are done" in done.stderr
    rows = ("| magnitude | ", "| bso, samples_per_gradient 1 | ", "| magnitude, stages 1 | ")
    assert all((tmp_path / "t.md").read_text().count(row) == 3 for row in rows)
    picture = (tmp_path / "p.svg").read_text()
    assert "seconds" in picture
    assert "samples_per_gradient 2" in picture
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "g.toml",
        "p.svg",
        "r.jsonl",
        "t.md",
    ]


@pytest.mark.slow
def test_what_a_run_varies_is_told_by_the_present_file(tmp_path):
    (tmp_path / "g.toml").write_text("samples = 60\n[sweep]\nsparsity = [0.5]")
    arguments = ["sweep", "g.toml", "--out", "r.jsonl"]
    assert invoke(*arguments).exit_code == 0
    (tmp_path / "g.toml").write_text("sparsity = 0.5\n[sweep]\nsamples = [60]")
    done = invoke(*arguments, "--table", "t.md")
    assert done.exit_code == 0
    assert "1 of 1 runs are done" in done.stderr
    assert "samples 60" in (tmp_path / "t.md").read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("samples = 5", "has no table [sweep]"),
        ("sweep = 5", "has no table [sweep]"),
        ("[[sweep]]", "has no table [sweep]"),
        ("[[sweep]]\nseed = [1]\n[[sweep]]\nsede = [1]", "'sede': Did you mean seed"),
        ("[sweep]", "has no table [sweep]"),
        ("[sweep]\nspasity = [0.5]", "'spasity': Did you mean sparsity"),
        ("[sweep]\nsparsity = 0.5", "sparsity = 0.5; give a list"),
        ("[sweep]\nsparsity = []", "sparsity = []; give a list"),
        ("[sweep]\nsparsity = [2.0]", "`sparsity` is 2.0"),
        ("[sweep]\nsparsity = [0.5, 'x']", "`sparsity` is 'x'"),
        ("out = 'run'\n[sweep]\nsparsity = [0.5]", "sets out, which is not for sweeps"),
        ("colour = 1\n[sweep]\nsparsity = [0.5]", "unknown options. 'colour'"),
        ("[sweep]\nsolver = ['chitta']\nsparsity = [0.5]", "Unknown solver 'chitta'"),
        ("[sweep", "is not TOML"),
        ("samples = 5\nsparsity = 0.5\n[sweep]\nsamples = [5]", "gives samples both"),
        ("[fisher]\nsamples = 5\n[sweep]\n'fisher.samples' = [5]", "gives samples both"),
        ("[training]\nepochs = 5\n[sweep.training]\nepochs = [5]", "gives training.epochs both"),
        ("[sweep]\nfisher = ['improved']", "give a table [fisher] or `weighting`."),
        ("[sweep.fisher]\nsamples = 5", "samples = 5; give a list"),
        ("[sweep.report]\nquiet = [true]", "only for the command line"),
    ],
)
def test_files_that_tell_no_sweep(tmp_path, text, told):
    (tmp_path / "g.toml").write_text(text)
    assert told in refused("sweep", "g.toml", "--out", "r.jsonl")
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize(
    ("varied", "name"),
    [
        ('[sweep]\n"training.epochs" = [4, 8]', "training.epochs"),
        ("[sweep.training]\nepochs = [4, 8]", "training.epochs"),
        ('[sweep]\n"fisher.samples" = [4, 8]', "samples"),
        ("[sweep.fisher]\nsamples = [4, 8]", "samples"),
        ("[sweep]\nsamples = [4, 8]", "samples"),
    ],
)
@pytest.mark.parametrize("fixed", ["", "[training]\nrate = 0.5\n"])
def test_options_in_tables_are_varied_under_their_names(tmp_path, varied, name, fixed):
    (tmp_path / "g.toml").write_text(f"sparsity = 0.5\n{fixed}{varied}\n")
    runs = read_grid(tmp_path / "g.toml")
    assert [row_of(run.varied) for run in runs] == [f"{name} 4", f"{name} 8"]
    trained = [run.request.training for run in runs]
    values = trained if "epochs" in name else [run.request.fisher for run in runs]
    assert [getattr(v, name.removeprefix("training.")) for v in values] == [4, 8]
    assert not fixed or all(training.rate == 0.5 for training in trained)


def test_whole_tables_are_varied(tmp_path):
    (tmp_path / "g.toml").write_text(
        "sparsity = 0.5\n[training]\nrate = 0.5\n"
        "[sweep]\ntraining = [{ epochs = 4 }, { epochs = 8, batch = 4 }]\n"
    )
    first, second = (run.request.training for run in read_grid(tmp_path / "g.toml"))
    assert (first.epochs, first.rate, second.epochs, second.batch) == (4, 0.5, 8, 4)


def test_all_that_is_wrong_with_a_file_is_one_message(tmp_path):
    (tmp_path / "g.toml").write_text(
        "colour = 1\n[[sweep]]\nspasity = [0.5]\nsparsity = [2, 0.5]\nseed = [-1, 2]\n"
        "[[sweep]]\nsamples = [0, 0]\nridge = 1\n"
    )
    message = refused("sweep", "g.toml", "--out", "r.jsonl")
    wrong = ("'colour'", "'spasity'", "`sparsity` is 2", "`seed` is -1", "`samples` is 0")
    assert [message.count(told) for told in (*wrong, "ridge = 1; give a list")] == [1] * 6


def test_a_sweep_of_failures_shows_no_table(tmp_path):
    (tmp_path / "g.toml").write_text("sparsity = 0.9\n[sweep]\nsamples = [100000]\n")
    done = invoke("sweep", "g.toml", "--out", "r.jsonl", "--jobs", "1")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "1 of 1 runs failed" in done.stderr


def test_a_file_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "g.toml").write_text(GRID)
    (tmp_path / "r.jsonl").write_text("notes of mine\n")
    assert "cannot hold the results" in refused("sweep", "g.toml", "--out", "r.jsonl")
    assert (tmp_path / "r.jsonl").read_text() == "notes of mine\n"
    message = refused("sweep", "none.toml", "--out", "r.jsonl")
    assert message.endswith("'none.toml'. Check the path.")


def test_means_spreads_and_order_of_a_table():
    def line(solver, sparsity, value):
        seconds = {"collect": 0.5, "solve": 1.5, "evaluate": 1.0, "total": 4.0}
        run = {"solver": solver, "sparsity": sparsity, "seed": 0}
        fields = {"metric": "m", "pruned_metric": value, "sparsity": sparsity, "seconds": seconds}
        return {"run": run, "settings": {"sparsity": 0.3, "nnz": None}, **fields}

    failed = {"run": {"solver": "a", "sparsity": 0.5}, "error": "no"}
    table = make_table([line("b", 0.9, 1.0), failed, line("a", 0.5, 4.0), line("b", 0.9, 3.0)])
    assert (table.rows, table.columns) == (("b", "a"), ("sparsity 0.5", "sparsity 0.9"))
    cell = table.cells["b", "sparsity 0.9"]
    assert (cell.mean, cell.count, cell.seconds) == (2.0, 2, 2.0)
    assert cell.spread == pytest.approx(2**0.5)
    assert "| a | 4 |  |" in as_markdown(table)
    alone = {**line("a", 0.5, 4.0), "run": {"solver": "a", "seed": 0}}
    assert make_table([alone]).columns == ("sparsity 0.3",)

    both = {**line("a", 0.5, 4.0), "flops": 41, "dense_flops": 100}
    both["run"]["flops"] = 0.41
    counted = [both, {**line("a", 0.6, 3.0), "flops": 4099, "dense_flops": 10**4}]
    found = make_table([*counted, line("a", 0.5, 9.0)], "flops")
    assert found.columns == ("flops 0.41",)
    assert found.rows == ("a, flops and sparsity", "a, sparsity")
    assert "| a, sparsity | 3 |" in as_markdown(found)
    assert "| a, sparsity | 0.600 |" in as_markdown(found)
    with pytest.raises(InputError, match="budget, flops"):
        make_table([], "size")


def test_options_that_do_not_fit_are_refused_before_the_first_run(tmp_path, monkeypatch):
    """One run of two could be done, but the other never."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.toml").write_text(
        'sparsity = 0.9\nstructure = "outputs"\n[sweep]\nsolver = ["magnitude", "woodfisher"]\n'
    )
    done = invoke("sweep", "grid.toml", "--out", "runs.jsonl")
    assert done.exit_code == 2
    assert "woodfisher takes the Fisher in full" in done.stderr
    assert not (tmp_path / "runs.jsonl").exists()
