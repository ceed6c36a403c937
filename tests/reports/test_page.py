"""The page in a real browser: it opens from disk, sorts and filters, and escapes names."""

import re

import pytest

import chita
from chita.data.digits import digits
from chita.records import EpochRecord, LevelRecord, TrainingRecord
from chita.reports.page import make_report, page_of
from chita.reports.runs import Reading, read_runs, reported
from tests.chromium import CHROMIUM, browser
from tests.program import chita as invoke
from tests.reports.records import line, record, sensitivities, write_lines, write_record

HOSTILE = "</script><img src=x onerror=alert(1)><b>&amp;\"'%{x}"
MEGA = 1_000_000

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chromium")) as found:
        yield found


def two_hundred(folder, records=9):
    """Runs of many kinds: a sweep, records with all charts, a hostile one, and a broken line."""
    lines = [
        line(solver, seed, 90.0 - 10 * sparsity - seed / 10 - len(solver) / 7, sparsity)
        for solver in ("chita", "magnitude", "woodfisher", "obd", "cbs")
        for sparsity in (0.5, 0.8, 0.9, 0.95)
        for seed in range(10)
    ]
    lines = [*lines[: 199 - records], line(HOSTILE, 0, 50.0)]
    paths = [write_lines(folder / "runs.jsonl", [*lines, {"error": HOSTILE}])]
    epochs = [
        EpochRecord(epoch=e, sparsity=0.5, loss=0.1, rate=0.1, metric=90.0, seconds=1.0)
        for e in (1, 2)
    ]
    levels = [LevelRecord(tensor=t, sparsity=s, loss=s) for t in ("a", HOSTILE) for s in (0.5, 0.9)]
    for at in range(records):
        own = record(
            names=("a", HOSTILE),
            seed=at,
            levels=levels,
            training=TrainingRecord(epochs=tuple(epochs)),
            repeat=f"chita prune --model {HOSTILE}",
        )
        paths.append(write_record(folder / f"run-{at}", own))
    return [*paths, write_record(folder / "sens", sensitivities(("a", HOSTILE)))]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = folder / "page.html"
    path.write_text(page_of(make_report(read_runs(two_hundred(folder)))))
    return path


def test_two_hundred_runs_are_under_3_mb(page):
    assert page.stat().st_size < 3 * MEGA
    assert len(re.findall(r'<section class="run"', page.read_text())) == 200


@needs_chromium
@pytest.mark.parametrize("width", [1280, pytest.param(390, marks=pytest.mark.slow)])
def test_every_plot_has_marks_and_nothing_is_asked_for(chromium, page, width):
    chromium.open(page, width, phone=width < 600)
    chromium.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    charts = "[...document.querySelectorAll('figure')]"
    marks = f"{charts}.map(f => f.querySelectorAll('svg path, svg use, svg image').length)"
    found = chromium.run(marks)
    assert len(found) > 9 * 6
    assert min(found) > 5
    sizes = chromium.run(f"{charts}.map(f => f.querySelector('svg').getBoundingClientRect().width)")
    assert min(sizes) > 0.75 * min(width, 500)
    ids = chromium.run("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(set(ids)) == len(ids)
    wide = chromium.run("document.documentElement.scrollWidth")
    assert wide <= width
    assert chromium.faults == []


@needs_chromium
def test_names_are_shown_as_they_are(chromium, page):
    chromium.open(page)
    assert chromium.run("document.querySelectorAll('img, b').length") == 0
    cells = chromium.run("[...document.querySelectorAll('#runs td')].map(c => c.textContent)")
    assert HOSTILE in cells
    assert HOSTILE in chromium.run("document.querySelector('.warn').textContent")
    texts = "[...document.querySelectorAll('#run-200 svg text')].map(t => t.textContent)"
    assert {"a", f"{HOSTILE[:22]}…{HOSTILE[-21:]}"} <= set(chromium.run(texts))
    assert chromium.faults == []


@needs_chromium
def test_the_table_sorts_and_filters_by_keyboard(chromium, page):
    chromium.open(page)

    def column(place):
        shown = "[...document.querySelectorAll('#runs tbody tr')].filter(r => !r.hidden)"
        return chromium.run(f"{shown}.map(r => r.cells[{place}].textContent)")

    heads = chromium.run("[...document.querySelectorAll('#runs th')].map(h => h.textContent)")
    pruned = heads.index("pruned")
    chromium.run(f"document.querySelectorAll('#runs th button')[{pruned}].focus()")
    chromium.key("Enter", "\r")
    values = [float(v) for v in column(pruned)]
    assert values == sorted(values)
    assert len(values) == 200
    chromium.key(" ", " ")
    assert [float(v) for v in column(pruned)] == sorted(values, reverse=True)
    sort = f"document.querySelectorAll('#runs th')[{pruned}].getAttribute('aria-sort')"
    assert chromium.run(sort) == "descending"
    bound = heads.index("objective Q")
    chromium.run(f"document.querySelectorAll('#runs th button')[{bound}].click()")
    known = [v != "" for v in column(bound)]
    assert known == sorted(known, reverse=True)  # what is not known comes last
    chromium.run("document.getElementById('filter').focus()")
    chromium.send("Input.insertText", text="WOOD 0.95")
    assert len(column(0)) == 10
    assert chromium.run("document.getElementById('shown').textContent") == "10 of 200 runs"
    chromium.run("document.querySelector('#runs tbody a[href=\"#run-120\"]').click()")
    chromium.until("document.querySelector('#run-120 details').open")
    assert chromium.faults == []


@needs_chromium
@pytest.mark.slow
def test_it_is_light_or_dark_and_prints_light(chromium, tmp_path):
    page = tmp_path / "page.html"
    page.write_text(page_of(make_report(read_runs_of(record()))))
    chromium.open(page)
    back = "getComputedStyle(document.body).backgroundColor"
    assert chromium.run(back) == "rgb(255, 255, 255)"
    text = "getComputedStyle(document.querySelector('svg text')).fill"
    line = "getComputedStyle(document.querySelector('svg use')).stroke"
    assert chromium.run(text) == chromium.run(line) == "rgb(28, 30, 33)"
    media = [{"name": "prefers-color-scheme", "value": "dark"}]
    chromium.send("Emulation.setEmulatedMedia", features=media)
    assert chromium.run(back) == "rgb(21, 24, 28)"
    assert chromium.run(text) == chromium.run(line) == "rgb(231, 233, 236)"
    chromium.send("Emulation.setEmulatedMedia", media="print", features=media)
    assert chromium.run(back) == "rgb(255, 255, 255)"
    chromium.send("Emulation.setEmulatedMedia", media="", features=[])
    printed = chromium.send("Page.printToPDF", printBackground=False)["data"]
    assert len(printed) > 50_000


@needs_chromium
def test_numbers_stand_behind_each_plot(chromium, page):
    chromium.open(page)
    chromium.run("document.querySelector('figure details').open = true")
    rows = "[...document.querySelectorAll('figure')[0].querySelectorAll('tr')]"
    found = chromium.run(f"{rows}.map(r => [...r.cells].map(c => c.innerText))")
    mean = 90 - 5 - 0.45 - 5 / 7
    first = next(row for row in found if row[0] == "chita" and row[1] == "0.5")
    assert float(first[2]) == pytest.approx(mean, abs=1e-4)


@needs_chromium
def test_a_run_of_today_makes_a_page_from_the_command_line(chromium, tmp_path):
    model = chita.load_model("digits-mlp")
    calibration, _ = digits()
    chita.prune(
        model,
        calibration,
        sparsity=0.9,
        fisher=chita.Fisher(samples=100),
        stages=2,
        quadratic=chita.Quadratic(ridge=0.01, first_order=0),
        solver="iht",
    ).save(tmp_path / "run")
    asked = ["report", str(tmp_path / "run"), "--out", str(tmp_path / "p.html")]
    done = invoke(*asked, "--plots", tmp_path / "plots")
    assert done.exit_code == 0, done.output
    chromium.open(tmp_path / "p.html")
    assert chromium.run("document.querySelector('h1').textContent") == "Pruning: run"
    keys = chromium.run("[...document.querySelectorAll('figure')].map(f => f.id)")
    written = {path.name for path in (tmp_path / "plots").iterdir()}
    assert written == {f"{key}.{kind}" for key in keys for kind in ("png", "svg")}
    assert chromium.faults == []


def test_a_run_from_python_has_its_options_without_those_that_are_null():
    settings = {"sparsity": 0.9, "nnz": None, "training": {"epochs": 3, "clip": None}}
    text = page_of(make_report(read_runs_of(record(settings=settings))))
    assert "called from Python, with these options, under the names of a run file" in text
    asked = re.search(r"sparsity = .*?(?=<)", text, re.DOTALL)[0]
    assert asked.replace("&#34;", '"') == 'sparsity = 0.9\ntraining = {"epochs": 3}'


def test_the_page_asks_the_network_for_nothing():
    text = page_of(make_report(read_runs_of(record())))
    assert not re.search(r"(src|href)\s*=\s*[\"']?\s*(https?:)?//", text)
    assert not re.search(r"@import|url\(\s*[\"']?\s*(https?:)?//", text)


def read_runs_of(own):
    return Reading(runs=(reported(own),))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none", "--out", "p.html"], "No such file"),
        (["runs.jsonl", "--out", "p.txt"], "ends in .html"),
        (["runs.jsonl", "--out", "."], "ends in .html"),
        (["runs.jsonl", "--out", "folder.html"], "exists and is no file"),
        (
            ["runs.jsonl", "--out", "no/such/p.html"],
            "written: no/such is no folder",
        ),
        (["runs.jsonl", "--out", "p.html", "--plots", "runs.jsonl"], "cannot hold plots"),
        ([], "RUNS is missing"),
    ],
)
def test_bad_input_gets_one_message(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    write_lines(tmp_path / "runs.jsonl", [line()])
    (tmp_path / "folder.html").mkdir()
    before = (tmp_path / "runs.jsonl").read_bytes()
    done = invoke("report", *arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())
    assert done.output.count("Error:") == 1
    assert (tmp_path / "runs.jsonl").read_bytes() == before


def test_a_result_shows_itself_in_a_notebook(tmp_path):
    model = chita.load_model("digits-mlp")
    result = chita.prune(model, sparsity=0.9, solver="magnitude")
    shown = result._repr_html_()
    assert "fc1.weight" in shown
    assert shown.count("<svg") == 1
    hostile = result.described(model=HOSTILE)._repr_html_()
    assert "<img" not in hostile
