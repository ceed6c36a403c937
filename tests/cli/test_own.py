"""Networks and data of one's own through the program, and that every option reaches the run."""

import json
import pathlib
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import chita
from chita.data.digits import digits
from tests.program import chita as invoke

MODULE = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))

def made():
    model = network()
    model(torch.zeros(1, 3, 4, 4))
    return model

def plain():
    torch.manual_seed(0)
    return nn.Linear(4, 3)

def at_random():
    return nn.Linear(4, 3)

def batches():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(40, 4, generator=generator), torch.randint(3, (40,), generator=generator)
    return list(zip(x.split(8), y.split(8))), None

def regression():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 4, generator=generator)
    return (x, x[:, :3].sin()), (x[:10], x[:10, :3].sin())

def halved(model, batch):
    return 0.5 * nn.functional.mse_loss(model(batch[0]), batch[1])
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """The name of a module of one's own in the current folder."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield name
    sys.modules.pop(name, None)


def printed(*arguments):
    done = invoke(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def record(folder="run"):
    with pathlib.Path(f"{folder}/record.json").open() as file:
        return json.load(file)


def test_a_function_gives_the_network_and_its_weights(own):
    plain = torch.nn.Linear(4, 3)
    save_file(plain.state_dict(), "w.safetensors")
    for extra, bias in (([], None), (["--weights", "w.safetensors"], plain.bias)):
        found = printed(
            *("prune", "--model", f"{own}:plain", "--data", f"{own}:batches", "--nnz", 5),
            *("--samples", 20, "--out", "run", "--force", *extra),
        )
        assert (found["metric"], found["accuracy"], found["dense_metric"]) == (None, None, None)
        state = load_file("run/model.safetensors")
        assert int(state["weight"].count_nonzero()) == 5
        assert bias is None or torch.equal(state["bias"], bias)
    assert record()["settings"]["weights"] == "w.safetensors"


def test_it_is_told_that_a_function_may_give_weights_at_random(own):
    save_file(torch.nn.Linear(4, 3).state_dict(), "w.safetensors")
    save_file({"weight": torch.arange(12.0).view(3, 4) % 2}, "half.safetensors")
    data = ("--data", f"{own}:regression", "--loss", "mse")
    some = ("--validation", "8", "--samples", "20")
    for command, *others in (
        ("prune", "--nnz", "5", "--solver", "magnitude"),
        ("refit", "--mask", "half.safetensors", *some, "--ridge", "0.1"),
        ("apply", "--mask", "half.safetensors"),
        ("evaluate",),
        ("sensitivity", *some, "--solver", "magnitude", "--sparsities", "0.5"),
    ):
        told = ["no --weights" in stderr for stderr in said(own, command, *data, *others)]
        assert told == [True, False, False], command
    assert "no --weights" not in next(said(own, "plan", *data))
    assert "no --weights" not in invoke("evaluate").stderr


def said(own, command, *others):
    """What a command says without weights, with them, and quietly."""
    for extra in ((), ("--weights", "w.safetensors"), ("--quiet",)):
        done = invoke(command, "--model", f"{own}:at_random", *others, *extra)
        assert done.exit_code == 0, done.output
        yield done.stderr


def test_what_a_function_draws_is_the_same_in_every_run(own):
    before = torch.get_rng_state()
    first = chita.load_model(f"{own}:at_random")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    again = chita.load_model(f"{own}:at_random")
    assert torch.equal(first.weight, again.weight)


def test_a_regression_names_its_metric_and_a_loss_of_ones_own_is_used(own):
    common = ["prune", "--model", f"{own}:plain", "--data", f"{own}:regression", "--samples", 30]
    mse = printed(*common, "--nnz", 6, "--loss", "mse", "--ridge", 0.01)
    assert mse["metric"] == "mean squared error"
    assert mse["accuracy"] is None
    assert mse["pruned_metric"] > 0
    half = printed(*common, "--nnz", 6, "--loss", f"{own}:halved", "--ridge", 0.01, "--out", "run")
    assert half["metric"] == "mean loss (halved), by samples"
    assert half["dense_metric"] == pytest.approx(mse["dense_metric"] / 2, rel=1e-5)
    assert record()["loss"] == "halved"
    assert record()["settings"]["loss"] == f"{own}:halved"


def test_folders_of_images_are_scaled_and_normalised_as_asked(own, tmp_path):
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for kind in ("cat", "dog"):
            folder = tmp_path / "images" / split / kind
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    common = ["prune", "--model", f"{own}:made", "--data", "images", "--nnz", 30, "--samples", 9]
    hashes = []
    for extra in ([], ["--image-mean", "0,0,0"], ["--image-std", "1,1,1"]):
        found = printed(*common, "--image-size", 4, *extra, "--out", "run", "--force")
        assert found["metric"] == "top-1 accuracy, per cent"
        hashes.append(record()["data_hash"])
    assert len(set(hashes)) == 3
    form = chita.image_format.ImageFormat(size=4, mean=(0.0, 0.0, 0.0))
    images, _ = chita.data.sets.load_dataset("images", images=form)
    seen = chita.data.sampler.draw(images, 9, seed=0)
    assert hashes[1] == seen.digest()


def test_tensors_in_a_file(own):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(50, 4, generator=generator), torch.randint(3, (50,), generator=generator)
    np.savez("data.npz", inputs=x.numpy(), targets=y.numpy())
    torch.save({"inputs": x, "targets": y}, "data.pt")
    save_file({"inputs": x, "targets": y}, "data.safetensors")
    common = ["prune", "--model", f"{own}:plain", "--nnz", 5, "--samples", 30, "--data"]
    found = [printed(*common, f"data.{kind}") for kind in ("npz", "pt", "safetensors")]
    assert found[0]["objective"] == found[1]["objective"] == found[2]["objective"]
    assert found[0]["accuracy"] is not None


def test_every_option_about_weights_and_labels_reaches_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["prune", "--samples", 30, "--out", "run", "--force"]

    def layers(*extra):
        found = printed(*common, *(["--sparsity", 0.99] if "--config" not in extra else []), *extra)
        return {layer["name"]: layer["kept"] for layer in record()["layers"]}, found

    assert set(layers("--targets", "fc1", "--targets", "fc3")[0]) == {
        "fc1.weight",
        "fc3.weight",
    }
    assert set(layers("--ignore", "re:fc[12]")[0]) == {"fc3.weight"}
    assert min(layers("--min-keep", 55)[0].values()) >= 55
    given, drawn = layers()[1], layers("--labels", "model")[1]
    assert given["objective"] != drawn["objective"]
    with pathlib.Path("run.toml").open("w") as file:
        file.write('targets = "fc2"\nsparsity = 0.5\nmin-keep = 3\nlabels = "model"\n')
    assert set(layers("--config", "run.toml")[0]) == {"fc2.weight"}
    assert record()["settings"]["min_keep"] == 3
    assert record()["settings"]["labels"] == "model"


def test_a_mask_is_refitted_and_applied_from_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    printed("prune", "--sparsity", 0.9, "--solver", "magnitude", "--out", "masked")
    refit = printed("refit", "--mask", "masked", "--samples", 100, "--out", "refitted")
    applied = printed("apply", "--mask", "masked/masks.safetensors", "--out", "applied")
    again = printed("apply", "--mask", "masked/model.safetensors")
    assert refit["accuracy"] > applied["accuracy"] == again["accuracy"]
    masked, applied = (
        load_file("masked/model.safetensors"),
        load_file("applied/model.safetensors"),
    )
    assert all(torch.equal(masked[name], applied[name]) for name in masked)
    assert record("refitted")["command"] == "refit"
    assert record("applied")["settings"]["mask"] == "masked/masks.safetensors"


def test_a_plan_is_what_the_run_then_does():
    arguments = ["--sparsity", 0.9, "--ignore", "fc3", "--samples", 40]
    plan, run = printed("plan", *arguments), printed("prune", *arguments)
    assert (plan["kept"], plan["prunable"], plan["samples"]) == (run["nnz"], run["prunable"], 40)
    rules = {tensor["name"]: tensor["rule"] for tensor in plan["tensors"]}
    assert rules["fc3.weight"] == "ignore fc3"
    assert plan["collect_seconds"] > 0
    text = invoke("plan", *arguments).stdout
    assert "ignore fc3" in text
    assert f"{plan['gradient_bytes'] / 1e6:,.1f} MB" in text


@pytest.mark.slow
@pytest.mark.data
def test_resnet20_on_jpegs_from_a_zip(data_dir):
    """The accuracy that came with the checkpoint, through zip, decoder, normalisation, network."""
    common = [
        *("--model", "resnet20", "--data", data_dir / "cifar10-q75.zip"),
        *("--weights", data_dir / "checkpoints" / "resnet20_cifar10q75.safetensors"),
        *("--evaluate", "all"),
    ]
    assert round(printed("evaluate", *common)["accuracy"], 2) == 88.34


def test_the_digits_are_still_the_default():
    found = printed("prune", "--nnz", 900, "--samples", 30)
    model = chita.load_model("digits-mlp")
    result = chita.prune(
        model, digits()[0], budget=chita.Nonzeros(900), fisher=chita.Fisher(samples=30)
    )
    assert found["objective"] == result.objective
