"""Progress on a terminal, in a notebook, and as lines: what is seen while a task runs."""

import contextlib
import io
import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
from rich.console import Console

import chita
from chita.data.digits import digits
from chita.errors import InputError
from chita.progress import RUN_SECONDS_LEFT, Placed, Silent, display, track
from chita.progress.display import PERIOD, Display, json_lines, progress_of, shown
from tests.progress.watching import Remembering, waited_for

TOLD = {"objective": -0.5, "validation_loss": 0.25, RUN_SECONDS_LEFT: 500.0}


def console(*, terminal=False, **environment):
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=100, color_system=None,
        _environ={"TERM": "xterm", **environment},
    )  # fmt: skip


def at(clock):
    """Progress by a clock, and all events that it writes."""
    events = []
    by_hand = Display(
        lambda event, fields: events.append((event, fields)),
        lambda _: contextlib.nullcontext(),
        clock=lambda: clock[0],
    )
    return by_hand, events


def test_rates_and_times_left_by_hand():
    now = [100.0]
    progress, events = at(now)
    progress.start("collect gradients", 1000, "gradients")
    begun = {"task": "collect gradients", "done": 0, "total": 1000, "unit": "gradients"}
    assert events.pop() == (
        "start",
        {**begun, "seconds": 0.0, "rate": None, "seconds_left": None},
    )
    progress.advance(100)
    progress.report("stage 1 of 2", TOLD)
    assert events.pop() == ("values", {"task": "stage 1 of 2", **TOLD})
    now[0] += 8
    progress.advance(100)
    counted = {**begun, "done": 200, "seconds": 8.0, "rate": 25.0, "seconds_left": 32.0}
    assert progress.fields() == {**counted, **TOLD, RUN_SECONDS_LEFT: 492.0}
    progress.report("stage 2 of 2", {"objective": -1.0})
    now[0] += 491.5
    latest = {"objective": -1.0, "validation_loss": 0.25}
    left = {name: progress.fields()[name] for name in TOLD}
    assert left == {**latest, RUN_SECONDS_LEFT: 0.5}
    now[0] += 1
    progress.finish()
    assert RUN_SECONDS_LEFT not in progress.fields()
    progress.start("evaluate", 0, "samples")
    progress.advance(5)
    now[0] += 2
    counted = {"task": "evaluate", "done": 5, "total": None, "unit": "samples", "seconds": 2.0}
    assert progress.fields() == {**counted, "rate": 2.5, "seconds_left": None, **latest}


def test_words_by_hand():
    now = [0.0]
    progress, events = at(now)
    progress.start("stage 2 of 9: collect gradients", 10_000, "gradients")
    progress.advance(2000)
    progress.report("stage 1 of 9", TOLD)
    now[0] = 50.0
    assert display.worded("advance", progress.fields()) == (
        "stage 2 of 9: collect gradients: 2,000 of 10,000 gradients, 50.00 s, 40 gradients/s; "
        "objective -0.5, validation loss 0.25, about 8 min left in all"
    )  # and nothing of the task's own 3 min
    progress.advance(8000)
    assert "gradients/s; objective" in display.worded(
        "advance", progress.fields()
    )  # nothing is left
    progress.finish()
    assert display.worded(*events[-1]) == (
        "stage 2 of 9: collect gradients: 10,000 of 10,000 gradients, 50.00 s, 200 gradients/s"
    )
    progress.start("solve", 1, "problem")
    progress.finish()
    assert display.worded(*events[-1]) == "solve: 0 of 1 problem, 0.00 s"
    progress.start("solve", 0, "evaluations")
    progress.advance(1)
    progress.finish()
    assert display.worded(*events[-1]) == "solve: 1 evaluation, 0.00 s"
    told = {"top-1 accuracy, per cent": 69.88, RUN_SECONDS_LEFT: 9e3}
    progress.report("run 1 of 2", told)
    line = "run 1 of 2: top-1 accuracy, per cent: 69.88, about 2.5 h left in all"
    assert display.worded(*events[-1]) == line


def test_a_terminal_shows_a_bar_with_what_the_last_stage_came_to():
    screen = console(terminal=True)
    bar = shown(screen)
    bar.report("stage 1 of 3", TOLD)
    with track(bar, "stage 2 of 3: collect gradients", 1000, "gradients"):
        bar.advance(300)
        seen = (
            "300 of 1,000 gradients",
            " gradients/s; ",
            "objective -0.5, validation loss 0.25, about",
        )
        assert waited_for(lambda: all(text in screen.file.getvalue() for text in seen))
        assert "━" in screen.file.getvalue()
    with track(bar, "stage 2 of 3: solve", 1, "problem"):
        drawn = screen.file.getvalue()
        assert waited_for(lambda: screen.file.getvalue() != drawn)  # time goes on without parts
    left = screen.file.getvalue().splitlines()
    assert any("collect gradients: 300 of 1,000 gradients, " in line for line in left)
    assert "stage 2 of 3: solve: 0 of 1 problem, " in left[-1]


def test_elsewhere_lines_come_while_a_long_task_runs(monkeypatch):
    assert PERIOD <= 10  # who waits ten seconds sees something
    monkeypatch.setattr(display, "PERIOD", 0.05)
    screen = console()
    lines = shown(screen)
    with track(lines, "collect gradients", 1000, "gradients"):
        lines.advance(300)
        assert waited_for(lambda: screen.file.getvalue().count("300 of 1,000 gradients") >= 2)
        found = screen.file.getvalue().splitlines()[-1]
        assert found.startswith("collect gradients: 300 of 1,000 gradients, ")
        assert " gradients/s, about " in found
        assert found.endswith(" left")
    ended = screen.file.getvalue()
    assert " left" not in ended.splitlines()[-1]
    assert not waited_for(lambda: screen.file.getvalue() != ended, 0.2)  # the task is over


@pytest.mark.parametrize("options", [{}, {"terminal": True, "TERM": "dumb"}], ids=["file", "dumb"])
def test_a_short_task_is_one_line(options):
    screen = console(**options)
    lines = shown(screen)
    for _ in range(3):
        with track(lines, "evaluate", 500, "samples"):
            lines.advance(500)
    written = screen.file.getvalue()
    assert len(written.splitlines()) == 3
    assert "━" not in written


def test_each_line_of_json_is_an_object(monkeypatch):
    monkeypatch.setattr(display, "JSON_PERIOD", 0.05)
    screen = console()
    lines = json_lines(screen)
    lines.report("stage 1 of 2", {"objective": float("nan"), "validation_loss": 0.25})
    task = "stage 2 of 2: collect [bold]gradients[/bold] :smile: " + 200 * "x"
    with track(lines, task, 10, "gradients"):
        lines.advance(4)
        assert waited_for(lambda: '"advance"' in screen.file.getvalue())
    with track(lines, "evaluate", 0, "samples"):
        pass
    found = [json.loads(line) for line in screen.file.getvalue().splitlines()]
    assert found[0] == {
        "event": "values", "task": "stage 1 of 2", "objective": None, "validation_loss": 0.25
    }  # fmt: skip
    events = [line["event"] for line in found]
    assert [events[1], *events[-3:]] == ["start", "finish", "start", "finish"]
    assert set(events[2:-3]) == {"advance"}
    during = found[2]
    fields = ("task", "done", "total", "unit")
    assert [during[name] for name in fields] == [task, 4, 10, "gradients"]
    assert during["rate"] > 0
    assert during["seconds_left"] == pytest.approx(6 / during["rate"], rel=0.5)
    assert during["validation_loss"] == 0.25
    assert (found[-1]["total"], found[-1]["seconds_left"]) == (None, None)


class Output:
    """A widget of ipywidgets that holds what is printed while it is open."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def clear_output(self, *, wait):
        self.waits = wait

    def close(self):
        self.closed = True


@pytest.fixture
def notebook(monkeypatch):
    """A notebook with widgets: the HTML that it shows, and the widgets."""
    outputs, widgets = [], []

    def show(shown):
        (widgets if isinstance(shown, Output) else outputs).append(shown)

    modules = {name: ModuleType(name) for name in ("IPython", "IPython.display", "ipywidgets")}
    modules["IPython.display"].display = show
    modules["ipywidgets"].Output = Output
    modules["ipywidgets"].__spec__ = ModuleSpec("ipywidgets", None)
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return outputs, widgets


def texts(outputs):
    """The outputs as a front end without HTML shows them."""
    return [output._repr_mimebundle_((), ())["text/plain"] for output in outputs]


def in_notebook():
    return Console(force_jupyter=True, width=100, color_system=None)


def test_a_notebook_shows_a_bar_that_moves_and_keeps_lines(notebook):
    outputs, widgets = notebook
    bar = shown(in_notebook())
    bar.report("stage 1 of 3", TOLD)
    with track(bar, "collect <gradients>", 1000, "gradients"):
        bar.advance(300)
        seen = (
            "collect <gradients>: 300 of 1,000 gradients, ",
            " gradients/s; ",
            "objective -0.5",
            "━",
        )
        assert waited_for(lambda: all(text in texts(outputs)[-1] for text in seen))
        assert "<gradients>" not in outputs[-1].html
    assert [widget.closed for widget in widgets] == [True]
    kept = [text for text in texts(outputs) if len(text.splitlines()) == 1]  # others have a bar
    assert [text.partition(": ")[0] for text in kept] == ["stage 1 of 3", "collect <gradients>"]


def test_a_notebook_without_widgets_gets_lines(notebook, monkeypatch):
    outputs, _ = notebook
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    with track(shown(in_notebook()), "solve", 1, "problem"):
        pass
    assert ["solve: 0 of 1 problem" in text for text in texts(outputs)] == [True]


def test_what_python_takes(capsys):
    model = chita.load_model("digits-mlp")
    assert isinstance(progress_of(None), Silent)
    assert isinstance(progress_of(False), Silent)
    chita.evaluate(model, digits()[1], progress=True)
    assert "evaluate: 500 of 500 samples" in capsys.readouterr().err
    chita.prune(model, digits()[0], solver="magnitude", sparsity=0.5, progress=True)
    assert "solve: 1 evaluation, " in capsys.readouterr().err
    remembering = Remembering()
    assert progress_of(remembering) is remembering
    wrong = (("yes", "start, advance, finish, report"), (io.StringIO(), "start, adv"))
    for given, lacking in wrong:
        with pytest.raises(InputError, match=f"has no {lacking}"):
            chita.prune(model, digits()[0], solver="magnitude", sparsity=0.5, progress=given)


def test_a_part_of_a_run_does_not_say_what_is_left_of_the_run():
    remembering = Remembering()
    part = Placed(remembering, "event 1 of 2: ")
    part.report("stage 1 of 3", TOLD)
    part.report("stage 2 of 3", {RUN_SECONDS_LEFT: 3.0})
    told = {"objective": -0.5, "validation_loss": 0.25}
    assert remembering.told == [("event 1 of 2: stage 1 of 3", told)]
