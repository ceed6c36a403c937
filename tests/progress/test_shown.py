"""Progress on a terminal, in a notebook, and as lines: what is seen while a task runs."""

import io
import json
import sys
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console

import chita
from chita.data.digits import digits
from chita.errors import InputError
from chita.progress import RUN_SECONDS_LEFT, Placed, Silent, track
from chita.progress import shown as shown_module
from chita.progress.bar import Bar
from chita.progress.form import Json, Words
from chita.progress.lines import Lines
from chita.progress.notebook import Notebook
from chita.progress.running import Running
from chita.progress.shown import PERIOD, progress_of, shown
from tests.progress.watching import Remembering, waited_for

TOLD = {"objective": -0.5, "held_out_loss": 0.25, RUN_SECONDS_LEFT: 500.0}


def console(*, terminal=False, **environment):
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=100, color_system=None,
        _environ={"TERM": "xterm", **environment},
    )  # fmt: skip


def test_rates_and_times_left_by_hand():
    now = [100.0]
    running = Running(lambda: now[0])
    running.start("collect gradients", 1000, "rows")
    assert (running.rate, running.seconds_left) == (None, None)
    running.advance(100)
    running.tell(TOLD)
    now[0] += 8
    running.advance(100)
    assert (running.seconds, running.rate, running.seconds_left) == (8.0, 25.0, 32.0)
    assert running.values == {**TOLD, RUN_SECONDS_LEFT: 492.0}
    running.tell({"objective": -1.0})
    now[0] += 491.5
    assert running.values == {**TOLD, "objective": -1.0, RUN_SECONDS_LEFT: 0.5}
    now[0] += 1
    assert running.values == {"objective": -1.0, "held_out_loss": 0.25}
    running.start("evaluate", 0, "samples")
    assert (running.done, running.seconds) == (0, 0.0)
    running.advance(5)
    now[0] += 2
    assert (running.rate, running.seconds_left) == (2.5, None)


def test_words_by_hand():
    now = [0.0]
    running, words = Running(lambda: now[0]), Words()
    running.start("stage 2 of 9: collect gradients", 10_000, "rows")
    running.advance(2000)
    running.tell(TOLD)
    now[0] = 50.0
    assert words.event("start", running) is None
    assert words.event("advance", running) == (
        "stage 2 of 9: collect gradients: 2,000 of 10,000 rows, 50.00 s, 40 rows/s, about 3 min "
        "left; objective -0.5, held out loss 0.25, about 8 min left in all"
    )
    running.advance(8000)
    assert "rows/s; objective" in words.event("advance", running)  # nothing is left
    assert words.event("finish", running) == (
        "stage 2 of 9: collect gradients: 10,000 of 10,000 rows, 50.00 s, 200 rows/s"
    )
    running.start("solve", 1, "problem")
    assert words.event("finish", running) == "solve: 0 of 1 problem, 0.00 s"
    assert words.told("run 1 of 2", {RUN_SECONDS_LEFT: 9e3}) == (
        "run 1 of 2: about 2.5 h left in all"
    )


def test_a_terminal_shows_a_bar_with_what_the_last_stage_came_to():
    screen = console(terminal=True)
    bar = shown(screen)
    assert isinstance(bar, Bar)
    bar.tell("stage 1 of 3", TOLD)
    with track(bar, "stage 2 of 3: collect gradients", 1000, "rows"):
        bar.advance(300)
        seen = ("300 of 1,000 rows", " rows/s, about ", "objective -0.5, held out loss 0.25, about")
        assert waited_for(lambda: all(text in screen.file.getvalue() for text in seen))
        assert "━" in screen.file.getvalue()
    with track(bar, "stage 2 of 3: solve", 1, "problem"):
        drawn = screen.file.getvalue()
        assert waited_for(lambda: screen.file.getvalue() != drawn)  # time goes on without parts
    left = screen.file.getvalue().splitlines()
    assert any("collect gradients: 300 of 1,000 rows, " in line for line in left)
    assert "stage 2 of 3: solve: 0 of 1 problem, " in left[-1]


def test_elsewhere_lines_come_while_a_long_task_runs(monkeypatch):
    assert PERIOD == 30
    monkeypatch.setattr(shown_module, "PERIOD", 0.05)
    screen = console()
    lines = shown(screen)
    assert isinstance(lines, Lines)
    with track(lines, "collect gradients", 1000, "rows"):
        lines.advance(300)
        assert waited_for(lambda: screen.file.getvalue().count("300 of 1,000 rows") >= 2)
        found = screen.file.getvalue().splitlines()[-1]
        assert found.startswith("collect gradients: 300 of 1,000 rows, ")
        assert " rows/s, about " in found
        assert found.endswith(" left")
    ended = screen.file.getvalue()
    assert " left" not in ended.splitlines()[-1]
    assert not waited_for(lambda: screen.file.getvalue() != ended, 0.2)  # the task is over
    assert isinstance(shown(console(terminal=True, TERM="dumb")), Lines)


def test_a_short_task_is_one_line():
    screen = console()
    lines = Lines(screen, Words(), period=PERIOD)
    for _ in range(3):
        with track(lines, "evaluate", 500, "samples"):
            lines.advance(500)
    assert len(screen.file.getvalue().splitlines()) == 3


def test_each_line_of_json_is_an_object():
    screen = console()
    lines = Lines(screen, Json(), period=0.05)
    lines.tell("stage 1 of 2", {"objective": float("nan"), "held_out_loss": 0.25})
    task = "stage 2 of 2: collect [bold]gradients[/bold] :smile: " + 200 * "x"
    with track(lines, task, 10, "rows"):
        lines.advance(4)
        assert waited_for(lambda: '"advance"' in screen.file.getvalue())
    with track(lines, "evaluate", 0, "samples"):
        pass
    found = [json.loads(line) for line in screen.file.getvalue().splitlines()]
    assert found[0] == {
        "event": "values", "task": "stage 1 of 2", "objective": None, "held_out_loss": 0.25
    }  # fmt: skip
    events = [line["event"] for line in found]
    assert [events[1], *events[-3:]] == ["start", "finish", "start", "finish"]
    assert set(events[2:-3]) == {"advance"}
    during = found[2]
    fields = ("task", "done", "total", "unit")
    assert [during[name] for name in fields] == [task, 4, 10, "rows"]
    assert during["rate"] > 0
    assert during["seconds_left"] == pytest.approx(6 / during["rate"], rel=0.5)
    assert during["held_out_loss"] == 0.25
    assert (found[-1]["total"], found[-1]["seconds_left"]) == (None, None)


class Shell:
    """A shell of IPython; that of a notebook has a kernel."""


@pytest.fixture
def ipython(monkeypatch):
    """IPython in a notebook: its outputs, and the shell."""
    outputs, shell = [], Shell()
    shell.kernel = object()

    def display(picture, *, display_id):
        outputs.append([picture])
        return SimpleNamespace(update=outputs[-1].append)

    package, module = ModuleType("IPython"), ModuleType("IPython.display")
    package.get_ipython, module.display = lambda: shell, display
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return outputs, shell


def test_a_notebook_shows_one_output_that_changes(ipython):
    outputs, _ = ipython
    notebook = shown(console())
    assert isinstance(notebook, Notebook)
    notebook.tell("stage 1 of 3", TOLD)
    with track(notebook, "collect <gradients>", 1000, "rows"):
        notebook.advance(300)
        assert waited_for(lambda: 'value="300" max="1000"' in outputs[0][-1]._repr_html_())
        drawn = outputs[0][-1]._repr_html_()
        assert "collect &lt;gradients&gt;: 300 of 1,000 rows, " in drawn
        assert "objective -0.5" in drawn
        assert " rows/s, about " in repr(outputs[0][-1])
    with track(notebook, "solve", 1, "problem"):
        assert "<progress></progress> solve: 0 of 1" in outputs[0][-1]._repr_html_()
    (output,) = outputs
    assert "<progress" not in output[-1]._repr_html_()
    lines = repr(output[-1]).splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "stage 1 of 3", "collect <gradients>", "solve"
    ]  # fmt: skip


def test_what_is_no_notebook_gets_lines(ipython, monkeypatch):
    outputs, shell = ipython
    with monkeypatch.context() as patch:
        for absent in (None, ModuleType("IPython.display")):
            patch.setitem(sys.modules, "IPython.display", absent)
            assert isinstance(shown(console()), Lines)
    assert isinstance(shown(console()), Notebook)
    del shell.kernel
    assert isinstance(shown(console()), Lines)
    assert isinstance(shown(console(terminal=True)), Bar)
    assert not outputs


def test_what_python_takes(ipython, capsys, monkeypatch):
    model = chita.load_model("digits-mlp")
    assert isinstance(progress_of(None), Silent)
    assert isinstance(progress_of(False), Silent)
    chita.evaluate(model, digits()[1], progress=True)
    assert "evaluate: 500 of 500 samples" in repr(ipython[0][0][-1])
    monkeypatch.delitem(sys.modules, "IPython")
    chita.prune(model, digits()[0], solver="magnitude", sparsity=0.5, progress=True)
    assert "solve: 1 of 1 problem, " in capsys.readouterr().err
    remembering = Remembering()
    assert progress_of(remembering) is remembering
    for given, lacking in (("yes", "start, advance, finish, tell"), (io.StringIO(), "start, adv")):
        with pytest.raises(InputError, match=f"has no {lacking}"):
            chita.prune(model, digits()[0], solver="magnitude", sparsity=0.5, progress=given)


def test_a_part_of_a_run_does_not_say_what_is_left_of_the_run():
    remembering = Remembering()
    part = Placed(remembering, "event 1 of 2: ")
    part.tell("stage 1 of 3", TOLD)
    part.tell("stage 2 of 3", {RUN_SECONDS_LEFT: 3.0})
    told = {"objective": -0.5, "held_out_loss": 0.25}
    assert remembering.told == [("event 1 of 2: stage 1 of 3", told)]
