"""Messages of `chita report` with nothing to read, or no place to write to."""

from pathlib import Path

import pytest

from tests.cli.refusals import refused


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["empty", "--out", "p.html"], "empty holds no record.json: No such file"),
        (["empty/record.json", "--out", "p.html"], "empty holds no record.json: No such file"),
        (["none", "--out", "p.html"], "none holds no run: No such file"),
        (["none.jsonl", "--out", "p.html"], "none.jsonl holds no run: No such file"),
        (["empty", "--out", "none/p.html"], "none/p.html cannot be written: none is no folder."),
        (["empty", "--out", "file/p.html"], "file/p.html cannot be written: file is no folder."),
        (["empty", "--out", "empty.html"], "empty.html exists and is no file."),
    ],
)
def test_files_and_folders_that_are_not_there(tmp_path, monkeypatch, arguments, told):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("empty.html").mkdir()
    Path("file").write_text("")
    said = " ".join(refused("report", *arguments).split())
    assert told in said
    assert "Errno" not in said
    assert "draft" not in said
