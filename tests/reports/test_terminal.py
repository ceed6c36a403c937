"""Tables on terminals of any width, and in files: names fold, numbers stay whole."""

import io

import pytest
from rich.console import Console

from chita.cli.feedback import whole_console
from chita.records import EpochRecord, TrainingRecord
from chita.reports.accuracy import make_table
from chita.reports.terminal import (
    FOLD,
    RIGHT,
    print_sweep,
    print_table,
    show_run,
)
from tests.reports.records import line, record

NAME = "encoder.layers.12.attention.output.dense.weight"


def printed(show, width=80, **options):
    screen = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width)
    show(screen, **options)
    return screen.file.getvalue()


@pytest.mark.parametrize("width", [200, 80, 40, 10])
def test_numbers_are_never_cut(width):
    columns = {"tensor": FOLD, "weights": RIGHT, "share\n%": RIGHT}
    columns |= {f"{i}": RIGHT for i in range(6)}
    numbers = ["12,345,678", "98.76", *(f"{i}23.4567" for i in range(6))]
    rows = [[NAME, *numbers], ["", *numbers]]
    shown = printed(print_table, width, columns=columns, rows=rows, title="a title")
    assert "…" not in shown
    lines = shown.splitlines()
    assert sum(all(number in text for number in numbers) for text in lines) == 2
    first = next(at for at, text in enumerate(lines) if numbers[0] in text)
    second = next(at for at, text in enumerate(lines[first + 1 :], first + 1) if "12,345" in text)
    pieces = [text.split("│")[1].strip() for text in lines[first:second]]
    assert "".join(pieces) == NAME  # folded, not cut
    if width == 200:
        assert len(pieces) == 1


def test_a_table_is_as_wide_as_the_terminal_where_it_can_be():
    columns, rows = {"tensor": FOLD, "weights": RIGHT}, [[NAME * 3, "5"]]
    assert max(map(len, printed(print_table, 80, columns=columns, rows=rows).splitlines())) == 80


def test_a_file_gets_every_name_whole(monkeypatch, tmp_path):
    monkeypatch.delenv("COLUMNS", raising=False)
    for columns, whole in ((None, True), ("60", False)):
        if columns:
            monkeypatch.setenv("COLUMNS", columns)
        with (tmp_path / "out.txt").open("w+") as file:
            screen = whole_console(file=file)
            show_run(record(names=(NAME, "b")), screen)
            screen.print("a sentence " * 30)
            file.seek(0)
            text = file.read()
        assert (NAME in text) == whole
        assert (("a sentence " * 29) in text) == whole
        assert " 91.50 pruned" in text


def test_a_run_is_shown():
    text = printed(lambda screen: show_run(record(), screen))
    assert "Net, pruned by chita" in text
    assert "top-1 accuracy, per cent: 95.00 dense, 91.50 pruned" in text
    assert "objective 0.4 at ridge 0.1, first-order scale 0, step size 1" in text
    assert "2 stages, validation loss 0.15 to 0.65" in text
    assert "no mask has an objective below 0.3: gap 25.00%" in text
    refitted = printed(lambda screen: show_run(record(command="refit"), screen))
    assert "Net, refitted" in refitted
    trained = TrainingRecord(epochs=(), stopped="the loss is not finite")
    stopped = printed(lambda screen: show_run(record(training=trained), screen))
    assert "0 epochs" in stopped
    epoch = EpochRecord(epoch=1, sparsity=0.5, loss=0.1, rate=0.1, metric=90.0, seconds=1.0)
    once = TrainingRecord(epochs=(epoch,))
    assert "1 epoch, training loss" in printed(lambda s: show_run(record(training=once), s))
    assert "training stopped: the loss is not finite" in stopped


def test_a_title_is_on_one_line_where_there_is_room():
    title = "a title that is wider than all columns"
    options = {"columns": {"a": FOLD, "b": RIGHT}, "rows": [["x", "1"]], "title": title}
    assert title in printed(print_table, 80, **options)
    narrow = printed(print_table, 20, **options)
    assert max(map(len, narrow.splitlines())) == 20


def test_lines_between_rows():
    rows = [[str(at)] for at in range(4)]
    shown = printed(print_table, columns={"n": RIGHT}, rows=rows, sections=(1, 3))
    assert [text[0] for text in shown.splitlines()[3:]] == [*"││├││└"]


def test_a_sweep_of_failures_has_no_table():
    assert printed(lambda screen: print_sweep(make_table([]), screen)) == ""
    table = make_table([line(seed=0), line(seed=1, value=80.0)])
    assert "85.00 ± 7.07" in printed(lambda screen: print_sweep(table, screen))
