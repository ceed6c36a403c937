"""Text as sequences of tokens."""

import pytest
import torch

from chita.data.lines import is_text, text_lines
from chita.data.text import packed, sentences, text_data
from chita.errors import InputError
from chita.text_format import TextFormat
from tests.text import WORDS, tokenizer_for, written

pytest.importorskip("transformers")

TEXT = " ".join(WORDS * 5)  # 90 words, one token each


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_packs_hold_all_tokens_in_order_without_padding(kind):
    form = TextFormat(name="", causal=kind == "decoder", length=10)
    found = packed(TEXT, form, tokenizer_for(kind)).batch
    ids = torch.tensor([4 + i % len(WORDS) for i in range(90)])
    inner = found["input_ids"][:, 1:-1] if kind == "encoder" else found["input_ids"]
    assert inner.flatten().tolist() == ids[: inner.numel()].tolist()
    assert bool(found["attention_mask"].all())
    if kind == "encoder":
        assert found["input_ids"].shape == (11, 10)
        assert set(found["input_ids"][:, 0].tolist()) == {2}
        assert set(found["input_ids"][:, -1].tolist()) == {3}
        assert "labels" not in found
    else:
        assert found["input_ids"].shape == (9, 10)
        assert torch.equal(found["labels"], found["input_ids"])


def test_sentences_are_padded_and_short_lines_left_out():
    form = TextFormat(name="", causal=False, length=8)
    lines = ["the cat", " ".join(WORDS[:6]), "", " ".join(WORDS)]
    found = sentences(lines, form, tokenizer_for("encoder")).batch
    assert found["input_ids"].shape == (2, 8)
    assert found["attention_mask"].sum(1).tolist() == [8, 8]
    assert found["input_ids"][0].tolist() == [2, 4, 5, 6, 7, 8, 9, 3]


def test_sentences_of_similar_length_share_a_batch(monkeypatch):
    monkeypatch.setattr("chita.data.text._TOGETHER", 3)
    form = TextFormat(name="", causal=False, length=20)
    lines = [" ".join(WORDS[:n]) for n in (15, 6, 9, 12, 7, 14, 8)]
    parts = sentences(lines, form, tokenizer_for("encoder")).parts
    assert [part["input_ids"].shape for part in parts] == [(3, 10), (3, 16), (1, 17)]
    assert [part["attention_mask"].sum(1).tolist() for part in parts] == [
        [8, 9, 10], [11, 14, 16], [17]
    ]  # fmt: skip
    for part in parts:
        for row, mask in zip(part["input_ids"].tolist(), part["attention_mask"], strict=True):
            length = int(mask.sum())
            assert row == [2, *range(4, 2 + length), 3] + [0] * (len(row) - length)


def test_files_and_folders(tmp_path):
    form = TextFormat(name="", causal=True, length=10)
    tokenizer = tokenizer_for("decoder")
    folder = written(tmp_path / "text")
    calibration, evaluation = text_data(str(folder), form, tokenizer)
    assert (len(calibration), len(evaluation)) == (66, 31)
    lines = (folder / "train.txt").read_text().splitlines()
    quoted = "".join(f'{{"text": "{line}"}}\n' for line in lines)
    (tmp_path / "a.jsonl").write_text(quoted)
    both = text_data(str(tmp_path / "a.jsonl"), form, tokenizer)
    plain = text_data(str(folder / "train.txt"), form, tokenizer)
    for ours, theirs in zip(both, plain, strict=True):
        assert torch.equal(ours.batch["input_ids"], theirs.batch["input_ids"])
    assert (len(both[0]), len(both[1])) == (52, 13)
    assert is_text(str(folder))
    assert is_text(str(tmp_path / "a.jsonl"))
    assert not is_text(str(tmp_path))
    (folder / "test.txt").unlink()
    with pytest.raises(InputError, match="must hold a file train"):
        text_data(str(folder), form, tokenizer)


@pytest.mark.parametrize("content", [b"\xff\xfe broken", b"the cat"])
def test_too_little_and_what_is_no_text_are_refused(tmp_path, content):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"UTF-8|fewer than one sequence"):
        text_data(
            str(tmp_path / "a.txt"), TextFormat(name="", causal=True), tokenizer_for("decoder")
        )


def test_data_sets_of_hugging_face(tmp_path):
    datasets = pytest.importorskip("datasets")
    folder = written(tmp_path / "text")
    train, test = ((folder / f"{n}.txt").read_text().splitlines() for n in ("train", "test"))
    splits = {"train": datasets.Dataset.from_dict({"text": train, "other": train})}
    splits["train"].save_to_disk(tmp_path / "one")
    assert text_lines(f"datasets:{tmp_path / 'one'}") == (train[:48], train[48:])
    splits["test"] = datasets.Dataset.from_dict({"text": ["\n".join(test)]})
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "two")
    assert text_lines(f"datasets:{tmp_path / 'two'}") == (train, test)
    renamed = splits["train"].rename_column("text", "sentence")
    renamed.save_to_disk(tmp_path / "three")
    with pytest.raises(InputError, match="columns sentence, other, and none named text"):
        text_lines(f"datasets:{tmp_path / 'three'}")
    datasets.DatasetDict(dev=renamed).save_to_disk(tmp_path / "four")
    with pytest.raises(InputError, match="has the splits dev; calibration takes train"):
        text_lines(f"datasets:{tmp_path / 'four'}")
    with pytest.raises(InputError, match=r"datasets:nowhere/nothing cannot be read: .*hub"):
        text_lines("datasets:nowhere/nothing")
