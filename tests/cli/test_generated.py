"""Options stand in one place: command line, run files, records and help come from there."""

import json
import re
import tomllib
from pathlib import Path

import pytest

import chita.cli.options
import chita.cli.requests
from chita.cli.app import COMMANDS
from chita.cli.generated import read_request
from chita.cli.requests import PlanRequest, PruneRequest, RefitRequest, SensitivityRequest
from chita.errors import InputError
from chita.options import Options, option
from chita.pruning.config import Fisher, Quadratic
from chita.settings import Request, leaves, part, request_of, settings_of
from chita.training.recipe import Training
from tests.program import chita as invoke

SAVED = [PruneRequest, PlanRequest, SensitivityRequest, RefitRequest]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def grown(group, name, kind, **spec):
    """A group of options with one more."""
    own = {"__annotations__": {name: kind}, name: option(**spec)}
    named = {"__doc__": group.__doc__, "__module__": group.__module__}
    return type(group)(group.__name__, (group,), {**named, **own})


@pytest.mark.parametrize(
    ("module", "group", "table"),
    [
        ("requests", "Fisher", "fisher"),
        ("requests", "Stages", "stages"),
        ("requests", "Memory", "memory"),
        ("requests", "RunOptions", "run"),
        ("options", "OutputOptions", "output"),
    ],
)
def test_an_option_is_one_field(monkeypatch, module, group, table):
    """Help, run files, the record, plan and `help()` know a field that a group gains."""
    home = getattr(chita.cli, module)
    spec = {"default": 7, "help": "Spoons of sugar.", "at_least": 1, "at_most": 9}
    kind = grown(getattr(home, group), "sugar_spoons", int, **spec)
    monkeypatch.setattr(home, group, kind)
    monkeypatch.setenv("COLUMNS", "200")
    for command in ("prune", "plan") if group != "OutputOptions" else ("prune",):
        shown = " ".join(invoke(command, "--help").stdout.split())
        assert "--sugar-spoons INT" in shown
        assert "Spoons of sugar. [default: 7; from 1 to 9]" in shown

    assert "sugar_spoons: Spoons of sugar. From 1 to 9. Default: 7." in kind.__doc__

    run = ("prune", "--sparsity", 0.5, "--solver", "magnitude", "--force", "--out", "run")
    for given, expected in (((), 7), (("--sugar-spoons", 3), 3), (("--config", "run.toml"), 4)):
        Path("run.toml").write_text(f"[{table}]\nsugar-spoons = 4\n")
        done = invoke(*run, *given)
        assert done.exit_code == 0, done.output
        record = json.loads(Path("run/record.json").read_text())
        assert record["settings"]["sugar_spoons"] == expected
        assert ("--sugar-spoons" in record["repeat"]) == (expected != 7)
    Path("run.toml").write_text("sugar_spoons = 5\n")
    assert invoke(*run, "--config", "run.toml").exit_code == 0
    assert json.loads(Path("run/record.json").read_text())["settings"]["sugar_spoons"] == 5

    for given in (("--sugar-spoons", 0), ("--sugar-spoons", "two")):
        told = invoke(*run, *given)
        assert told.exit_code == 2
        assert "give a whole number from 1 to 9. Spoons of sugar." in told.stderr
    Path("grid.toml").write_text(
        'sparsity = 0.5\nsolver = "magnitude"\n[sweep]\nsugar_spoons = [0]'
    )
    assert "`sugar_spoons` is 0" in invoke("sweep", "grid.toml", "--out", "r.jsonl").stderr


def test_an_option_of_training_is_one_field(monkeypatch):
    kind = grown(Training, "cooling", float, default=0.5, help="Degrees.", at_least=0)
    monkeypatch.setattr(chita.cli.requests, "Training", kind)
    monkeypatch.setenv("COLUMNS", "200")
    assert "--training.cooling NUMBER" in invoke("prune", "--help").stdout
    request = read_request(PruneRequest, {"training.cooling": "2"})
    assert request.training.cooling == 2.0
    assert settings_of(request)["training"]["cooling"] == 2.0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_flag_is_unique(command):
    own = leaves(COMMANDS[command])
    for names in (
        [leaf.name for leaf in own],
        [leaf.flag for leaf in own] + [leaf.negative for leaf in own if not leaf.positional],
    ):
        assert len(set(names)) == len(names)


def values(leaf):
    """Values of an option that are not its default, as a run file has them."""
    kinds, spec = leaf.entry.kinds, leaf.entry.spec
    if bool in kinds:
        return [not leaf.entry.default]
    if spec.choices and spec.choices != ("auto",):
        return [choice for choice in spec.choices if choice != leaf.entry.default]
    special = {"schedule": ["linear"], "epochs": [9], "options": [{"a": 1}]}
    if leaf.entry.name in special:
        return special[leaf.entry.name]
    low, high = spec.at_least or spec.above or 0, spec.at_most or spec.below or 1
    if int in kinds:
        return [low + 2 if leaf.entry.default == low + 1 else low + 1]
    return [low + 0.3 * (high - low)] if float in kinds else ["0.25"]


@pytest.mark.parametrize("kind", SAVED, ids=lambda kind: kind.__name__)
def test_tables_and_flat_names_and_flags_agree_and_settings_make_the_same_request(kind):
    must = {leaf.name: "m" for leaf in leaves(kind) if leaf.entry.required}
    checked = 0
    for leaf in leaves(kind):
        if leaf.group.name == "report":
            continue
        for value in values(leaf):
            table = {leaf.group.name: {leaf.entry.name: value}}
            dashed = {leaf.group.name: {leaf.entry.name.replace("_", "-"): value}}
            others = {name: own for name, own in must.items() if name != leaf.name}
            requests = [request_of(kind, {**others, **given}) for given in (table, dashed)]
            if not leaf.group.nested:
                requests.append(request_of(kind, {**others, leaf.name: value}))
            if not isinstance(value, dict):
                texts = [str(value)] if leaf.repeated else str(value)
                given = value if isinstance(value, bool) else texts
                requests.append(read_request(kind, {**others, leaf.name: given}))
            assert all(request == requests[0] for request in requests)
            settings = settings_of(requests[0])
            assert request_of(kind, settings) == requests[0]
            assert request_of(kind, json.loads(json.dumps(settings))) == requests[0]
            usual = settings_of(
                request_of(kind, {**must, **({"training": {}} if leaf.group.nested else {})})
            )
            assert [n for n in usual if usual[n] != settings[n]] == [leaf.name.partition(".")[0]]
            checked += 1
    assert checked > 25


def test_what_is_said_of_a_run_is_no_setting_of_it():
    said = {"config", "json", "tensorboard", "quiet", "log_format"}
    assert not said & settings_of(request_of(PruneRequest, {})).keys()
    for name in said:
        with pytest.raises(InputError, match=f"'{name}'"):
            request_of(PruneRequest, {name: True}, "run.toml")


def test_all_faults_are_one_message():
    given = {"sparsity": 2, "samples": 0, "ridge": "strong", "image_mean": "a", "device": 3}
    with pytest.raises(InputError) as error:
        request_of(PruneRequest, {**given, "training": {"epochs": 0, "rate": -1}})
    assert re.findall(r"`([\w.]+)` is ", str(error.value)) == [
        *("device", "image_mean", "sparsity", "samples", "ridge", "epochs", "rate")
    ]
    with pytest.raises(InputError) as error:
        request_of(PruneRequest, {"sede": 1, "fisher": {"smaples": 2}, "quadratic": {"colour": 3}})
    for name in ("'sede': Did you mean seed", "'fisher.smaples': Did you mean samples"):
        assert name in str(error.value)
    assert "'quadratic.colour': Known: ridge, first_order, step_size." in str(error.value)
    unknown = {"sede": 1, "samlpes": 2, "colour": 3, "hue": 4}
    with pytest.raises(InputError, match="'colour', 'hue': Known: model, ") as error:
        request_of(PruneRequest, unknown)
    assert str(error.value).count("Known: ") == 1


def test_the_command_line_wins_over_the_file():
    Path("run.toml").write_text(
        'sparsity = 0.5\nmin_keep = 3\nflops = 0.5\nsolver = "iht"\nseed = 4\n'
        "[options]\nmax_iterations = 2\nbound = true\n[training]\nepochs = 5\nbatch = 64\n"
    )
    config = {"config": "run.toml"}
    as_it_is = read_request(PruneRequest, config)
    assert (as_it_is.budget.sparsity, as_it_is.budget.flops, as_it_is.run.seed) == (0.5, 0.5, 4)
    other = read_request(PruneRequest, {**config, "nnz": "9", "options": ["max_iterations=7"]})
    assert (other.budget.given, other.budget.min_keep) == (("nnz",), 3)  # budgets go together
    assert other.solver.options == {"max_iterations": "7", "bound": True}
    assert read_request(PruneRequest, {**config, "solver": "bso"}).solver.options == {}
    Path("usual.toml").write_text("sparsity = 0.5\n[options]\nmax_rounds = 2\n")
    for solver, options in (("chita", {"max_rounds": 2}), ("bso", {})):
        asked = read_request(PruneRequest, {"config": "usual.toml", "solver": solver})
        assert asked.solver.options == options
    trained = read_request(PruneRequest, {**config, "training.batch": "32"}).training
    assert (trained.epochs, trained.batch, trained.rate) == (5, 32, Training().rate)
    assert read_request(PruneRequest, {**config, "seed": "8"}).run.seed == 8


def test_training_is_on_where_something_of_it_is_given():
    assert request_of(PruneRequest, {}).training is None
    assert request_of(PruneRequest, {"training": None}).training is None
    assert request_of(PruneRequest, {"training": {}}).training == Training()
    assert read_request(PruneRequest, {"training.rate": "0.5"}).training == Training(rate=0.5)
    assert request_of(PruneRequest, tomllib.loads("[training]\n")).training == Training()


def test_a_command_takes_only_its_part_of_a_group():
    assert "first_order" not in {leaf.name for leaf in leaves(SensitivityRequest)}
    assert {leaf.name for leaf in leaves(RefitRequest) if leaf.group.name == "stages"} == {
        "bn_recalibrate"
    }
    for kind, given in ((SensitivityRequest, {"first_order": 1}), (RefitRequest, {"history": 2})):
        with pytest.raises(InputError, match="unknown options"):
            request_of(kind, given)
    plan = request_of(PlanRequest, {"out": "run", "force": True})  # a run file of chita prune
    assert plan.output.out == Path("run")
    assert "Unknown option: --out" in invoke("plan", "--out", "run").stderr


def test_a_request_of_ones_own():
    class Baking(Request):
        """An example."""

        fisher: Fisher = part("samples")
        quadratic: Quadratic = part(without=("ridge", "step_size"))

    assert [leaf.flag for leaf in leaves(Baking)] == ["--samples", "--first-order"]
    assert settings_of(request_of(Baking, {"samples": 3})) == {"samples": 3, "first_order": "auto"}


def test_every_option_of_every_command_has_a_sentence_of_help():
    for kind in COMMANDS.values():
        for leaf in leaves(kind):
            assert leaf.entry.spec.help[-1] in ".!", leaf.flag
            assert len(leaf.entry.spec.help.split()) <= 70, leaf.flag
            assert isinstance(leaf.group.kind, type)
            assert issubclass(leaf.group.kind, Options)
