"""Networks of transformers: loaded by path, pruned on text, written for `from_pretrained`."""

import json
import math
import re

import pytest
import torch
from safetensors.torch import load_file

import chita
from chita.data.text import sentences, text_data
from chita.errors import InputError
from chita.exports.verify import verify
from chita.masks.storage import load_masks
from chita.models.hugging_face import hugging_face_model, tokenizer_of
from chita.training.fidelity import embeddings, fidelity
from tests.program import chita as invoke
from tests.text import saved, written

transformers = pytest.importorskip("transformers")


def prune(folder, data, out, *options):
    arguments = ["prune", "--model", f"hf:{folder}", "--data", str(data), "--out", str(out)]
    done = invoke(*arguments, "--samples", "8", "--length", "16", *options)
    assert done.exit_code == 0, done.output
    return done


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_from_path_and_text_to_a_folder_that_loads_anywhere(tmp_path, kind):
    folder, data = saved(kind, tmp_path / "model"), written(tmp_path / "text")
    out = tmp_path / "out"
    prune(folder, data, out, "--solver", "alps", "--sparsity", "0.6")
    record = json.loads((out / "record.json").read_text())
    automatic = transformers.AutoModel if kind == "encoder" else transformers.AutoModelForCausalLM
    found = automatic.from_pretrained(out)
    masks = load_masks(out / "masks.safetensors")
    assert record["nnz"] == sum(int(mask.sum()) for mask in masks.values())
    assert record["sparsity"] == pytest.approx(0.6, abs=0.01)
    weights = dict(found.named_parameters())
    for name, mask in masks.items():
        assert not weights[name][~mask].any()
        assert bool(weights[name][mask].any())
    again = chita.load_model(f"hf:{out}")
    for name, weight in again.named_parameters():
        assert torch.equal(weight, weights[name])
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert (
        tokenizer("the cat")["input_ids"]
        == tokenizer_of(hugging_face_model(str(folder)).text)("the cat")["input_ids"]
    )
    prune(folder, data, out, "--solver", "magnitude", "--layerwise", "--sparsity", "0.5", "--force")
    if kind == "encoder":
        assert record["dense_metric"] == pytest.approx(1)
        assert record["pruned_metric"] < 1
        assert 0 <= record["neighbours"] <= 100
    else:
        assert record["metric"] == "perplexity"
        assert record["pruned_metric"] > 1


@pytest.mark.parametrize("by", ["transformers", "hand"])
def test_a_tied_head_takes_no_more_room_than_from_pretrained_needs(tmp_path, by):
    folder = saved("decoder", tmp_path / "model")
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    if by == "hand":  # which no configuration tells: both names are needed
        network = type(network)(
            transformers.GPT2Config.from_pretrained(folder, tie_word_embeddings=False)
        )
        network.lm_head.weight = network.transformer.wte.weight
    result = chita.prune(network.eval(), sparsity=0.5, solver="magnitude")
    result.save(tmp_path / "run")
    read = load_file(tmp_path / "run" / "model.safetensors")
    dense = load_file(folder / "model.safetensors")
    assert read.keys() - dense.keys() == ({"lm_head.weight"} if by == "hand" else set())
    assert not verify(tmp_path / "run").faults
    again = type(network).from_pretrained(tmp_path / "run").eval()
    ids = torch.arange(12).reshape(2, 6)
    with torch.no_grad():
        assert torch.equal(again(ids).logits, result.model(ids).logits)


def test_perplexity_is_that_of_all_tokens_told(tmp_path):
    spec = hugging_face_model(str(saved("decoder", tmp_path / "model")))
    model = spec.trained()
    assert spec.text.length == 32  # which is all that it has positions for
    _, evaluation = text_data(str(written(tmp_path / "text")), spec.text, tokenizer_of(spec.text))
    losses = []
    for batch in evaluation.batches(1):
        logits = model(input_ids=batch["input_ids"]).logits[0, :-1]
        told = batch["input_ids"][0, 1:]
        losses.append(torch.nn.functional.cross_entropy(logits, told, reduction="none").detach())
    score = chita.evaluate(model, evaluation)
    assert score.metric == "perplexity"
    assert score.value == pytest.approx(math.exp(float(torch.cat(losses).mean())), rel=1e-4)
    assert score.count == sum(map(len, losses))


def test_fidelity_is_one_to_itself_and_falls(tmp_path):
    spec = hugging_face_model(str(saved("encoder", tmp_path / "model")))
    model, other = spec.trained().eval(), spec.trained().eval()
    _, lines = text_data(str(written(tmp_path / "text")), spec.text, tokenizer_of(spec.text))
    same = fidelity(model, other, lines)
    assert same.value == pytest.approx(1)
    assert same.neighbours == 100
    both = ["the cat sat on a mat", "while rain fell over hills and nobody came to look"]
    padded = sentences(both, spec.text, tokenizer_of(spec.text))
    assert not padded.batch["attention_mask"].all()
    ids = padded.batch["input_ids"][:1, :8]  # [CLS], six words, [SEP]
    states = model(input_ids=ids).last_hidden_state[0].mean(0).double()
    expected = torch.nn.functional.normalize(states, dim=0)
    assert torch.allclose(embeddings(model, padded)[0], expected, atol=1e-5)
    with torch.no_grad():
        for weight in other.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    worse = fidelity(model, other, lines)
    assert worse.value < 1
    with pytest.raises(InputError, match="no neighbour"):
        fidelity(model, other, lines.first(1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model", "hf:nowhere", "--data", "text"], "hf:nowhere cannot be read"),
        (
            ["--model", "hf:./modle", "--data", "text"],
            "there is no such folder. Did you mean model?",
        ),
        (["--model", "model", "--data", "text"], "Give hf:model."),
        (["--model", "text", "--data", "text"], "Give that, and the path as --weights"),
        (["--model", "hf:model", "--data", "text", "--length", "4"], "length"),
        (["--model", "hf:model", "--data", "few.txt"], "fewer than one sequence of 32"),
        (["--model", "digits-mlp", "--data", "text"], "comes with no tokenizer"),
        (["--model", "hf:model", "--data", "bad.jsonl"], "line 2 is no JSON object with a text"),
    ],
)
def test_what_cannot_be_used_is_one_message(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    saved("decoder", tmp_path / "model")
    written(tmp_path / "text")
    (tmp_path / "few.txt").write_text("the cat sat")
    (tmp_path / "bad.jsonl").write_text('{"text": "the cat sat"}\n{"words": 3}\n')
    done = invoke("prune", *arguments, "--sparsity", "0.5", "--solver", "alps")
    assert done.exit_code == 2, done.output
    assert words in " ".join(done.stderr.split())


@pytest.mark.parametrize("name", ["nowhere", "some/where", "./nowhere", "/a/b", "~/c", "a/b/c"])
def test_no_hub_is_asked_for_a_path_or_without_a_connection(monkeypatch, name):
    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("chita.models.hugging_face.getproxies", dict)
    monkeypatch.setattr("socket.create_connection", refuse)
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", pytest.fail)
    with pytest.raises(InputError, match=f"hf:{name} cannot be read: "):
        hugging_face_model(name)


def test_what_is_kept_from_the_hub_is_found_without_a_connection(tmp_path, monkeypatch):
    kept = tmp_path / "models--some--where"
    saved("decoder", kept / "snapshots" / "abc")
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert hugging_face_model("some/where").text.name == str(kept / "snapshots" / "abc")


def test_data_sets_calibrate_by_name_and_as_a_loader(tmp_path):
    """A data set named on the command line, and one that is tokenised, in anyone's loader."""
    datasets = pytest.importorskip("datasets")
    folder, text = saved("decoder", tmp_path / "model"), written(tmp_path / "text")
    lines = (text / "train.txt").read_text().splitlines()
    datasets.Dataset.from_dict({"text": lines}).save_to_disk(tmp_path / "data")
    options = ("--solver", "wanda", "--sparsity", "0.5")
    prune(folder, f"datasets:{tmp_path / 'data'}", tmp_path / "out", *options)
    spec = hugging_face_model(str(folder))
    calibration, _ = text_data(f"datasets:{tmp_path / 'data'}", spec.text, tokenizer_of(spec.text))
    rows = {name: rows.tolist() for name, rows in calibration.first(8).batch.items()}
    tokens = datasets.Dataset.from_dict(rows).with_format("torch")
    loader = torch.utils.data.DataLoader(tokens, batch_size=4)
    options = {"solver": "wanda", "sparsity": 0.5, "fisher": chita.Fisher(samples=8)}
    ours = chita.prune(spec.trained(), loader, **options)
    theirs = chita.prune(spec.trained(), calibration.first(8), **options)
    for name, mask in theirs.masks.items():
        assert torch.equal(ours.masks[name], mask)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--length", "64"], "--length is 64, and .* has positions for 32 tokens"),
        (["--max-memory", "-3"], "--max-memory is -3"),
        (["--flops", "0.5"], "Flops has none"),
        (["--sparsity", "0.5", "--samples", "1000000"], "but the calibration data hold"),
        (["--pattern", "2:5"], "in all. Leave them out"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(tmp_path, options, words, monkeypatch):
    folder, data = saved("encoder", tmp_path / "model"), written(tmp_path / "text")
    monkeypatch.setattr("chita.cli.prune.perform", None)
    budget = [] if {"--flops", "--sparsity", "--pattern"} & {*options} else ["--sparsity", "0.5"]
    arguments = ["prune", "--model", f"hf:{folder}", "--data", str(data), "--solver", "alps"]
    done = invoke(*arguments, *budget, *options)
    assert done.exit_code == 2
    assert re.search(words, " ".join(done.output.split()))
