import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from chita.errors import CheckpointError, InputError
from chita.image_format import IMAGENET_MEAN, IMAGENET_STD
from chita.models.zoo import LIBRARIES, MODELS, find_model, load_model, load_network

SOURCE = """
import torch
from torch import nn

def small():
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))

def parallel():
    return nn.DataParallel(small())

def twice():
    return nn.DataParallel(torch.optim.swa_utils.AveragedModel(small()))

def state():
    return small().state_dict()

def nothing():
    pass

def fails():
    raise OSError("no weights on this disk")

def sized(width):
    return nn.Linear(width, 2)

Network = small()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_nets_of_test").mkdir()
    (tmp_path / "own_nets_of_test" / "__init__.py").write_text("")
    (tmp_path / "own_nets_of_test" / "made.py").write_text(SOURCE)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    yield "own_nets_of_test.made"
    for name in [name for name in sys.modules if name.startswith("own_nets_of_test")]:
        del sys.modules[name]


def small():
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))


def equal(model, other):
    a, b = model.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# Functions of one's own


def test_a_function_of_ones_own_with_the_weights_it_gives(own):
    model, dropped = load_network(f"{own}:small")
    assert equal(model, small())
    assert dropped == ()
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("name", ["parallel", "twice"])
def test_wrappers_around_the_network_are_taken_off(own, name):
    model = load_model(f"{own}:{name}")
    assert type(model) is nn.Sequential
    assert equal(model, small())


def test_a_checkpoint_goes_before_the_weights_of_the_function(own, tmp_path):
    torch.manual_seed(8)
    other = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))
    torch.save(other.state_dict(), tmp_path / "w.pt")
    for name in ("small", "parallel"):
        model = load_model(f"{own}:{name}", tmp_path / "w.pt")
        assert equal(model, other)
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match="do not fit Sequential"):
        load_model(f"{own}:small", tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"absent\.pt does not exist"):
        load_model(f"{own}:small", tmp_path / "absent.pt")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("state", r"state returned a OrderedDict; it must return a torch\.nn\.Module"),
        ("nothing", "nothing returned a NoneType"),
        ("fails", "fails: OSError: no weights on this disk"),
        ("sized", "fails: TypeError.*'width'.*called without arguments"),
        ("smal", "has no 'smal'. Did you mean small"),
        ("Network", "fails: "),
    ],
)
@pytest.mark.parametrize("weights", [None, "w.pt"])
def test_functions_that_give_no_network(own, tmp_path, name, told, weights):
    torch.save(small().state_dict(), tmp_path / "w.pt")
    with pytest.raises(InputError, match=told):
        load_model(f"{own}:{name}", weights and tmp_path / weights)


def test_nothing_is_imported_or_built_before_it_is_asked_for(own):
    spec = find_model(f"{own}:fails")
    assert own not in sys.modules
    assert spec.images is spec.data is spec.bundled is None


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("digits-cn", r"Did you mean digits-cnn.*package\.module:function, torchvision:NAME"),
        ("nets", "Unknown model 'nets'"),
        ("nets:", "Unknown model 'nets:'"),
        ("torchvision:", "Unknown model 'torchvision:'"),
        ("", "Unknown model ''"),
    ],
)
def test_names_of_no_network(name, told):
    with pytest.raises(InputError, match=told):
        load_model(name)


def test_every_network_of_the_table_can_be_built():
    for name, spec in MODELS.items():
        assert isinstance(spec.build(), nn.Module), name
        if spec.bundled is None and spec.trained is None:
            with pytest.raises(
                CheckpointError, match=f"No weights are shipped for {name}.*`weights`"
            ):
                load_model(name)


# Other libraries, absent


@pytest.mark.parametrize("library", sorted(LIBRARIES.keys() - {"hf"}))
def test_a_library_that_is_absent(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf"{library}:resnet18 needs {library}.*torchvision timm"):
        load_model(f"{library}:resnet18")


@pytest.mark.parametrize("library", sorted(LIBRARIES.keys() - {"hf"}))
def test_a_library_that_does_not_fit_this_torch(library, tmp_path, monkeypatch):
    (tmp_path / f"{library}.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.delitem(sys.modules, library, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=rf"needs {library}: operator torchvision::nms"):
        load_model(f"{library}:resnet18")


# Other libraries, as far as they are used here


@pytest.fixture
def torchvision(monkeypatch):
    """A stand-in for `torchvision.models` after its public interface; no network of its own."""

    def preset(**fields):
        return SimpleNamespace(transforms=lambda: SimpleNamespace(**fields))

    kinds = {
        "tiny": preset(
            crop_size=[96], resize_size=[128], mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.3]
        ),
        "segments": preset(resize_size=[520], mean=[0.5, 0.4, 0.3], std=[0.1, 0.2, 0.3]),
        "detects": preset(),
        "plain": None,
        "offline": preset(crop_size=[224], mean=IMAGENET_MEAN, std=IMAGENET_STD),
        "wrapped": None,
    }

    def get_model(name, *, weights):
        if name == "offline" and weights is not None:
            raise ConnectionError("no route to host")
        assert weights is None or weights is kinds[name]
        torch.manual_seed(1 if weights is None else 7)
        network = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))
        return nn.DataParallel(network) if name == "wrapped" else network

    def get_model_weights(name):
        return type("Weights", (), {} if kinds[name] is None else {"DEFAULT": kinds[name]})

    models = ModuleType("torchvision.models")
    models.list_models = lambda: sorted(kinds)
    models.get_model = get_model
    models.get_model_weights = get_model_weights
    library = ModuleType("torchvision")
    library.models = models
    monkeypatch.setitem(sys.modules, "torchvision", library)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)


@pytest.mark.parametrize(
    ("name", "size", "mean", "std"),
    [
        ("tiny", 96, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)),
        ("segments", 224, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)),
        ("detects", 224, IMAGENET_MEAN, IMAGENET_STD),
        ("plain", 224, IMAGENET_MEAN, IMAGENET_STD),
    ],
)
def test_images_as_the_weights_of_torchvision_want_them(torchvision, name, size, mean, std):
    images = find_model(f"torchvision:{name}").images
    assert (images.size, images.mean, images.std) == (size, mean, std)


def test_torchvision_without_a_checkpoint_gives_its_own_weights(torchvision, tmp_path):
    model = load_model("torchvision:tiny")
    assert equal(model, small())
    assert not model.training
    torch.manual_seed(9)
    other = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))
    torch.save(other.state_dict(), tmp_path / "w.pt")
    for name in ("tiny", "offline", "wrapped"):  # weights of its own are not asked for
        assert equal(load_model(f"torchvision:{name}", tmp_path / "w.pt"), other)


def test_a_download_of_torchvision_that_fails(torchvision):
    with pytest.raises(InputError) as caught:
        load_model("torchvision:offline")
    told = str(caught.value)
    assert "torchvision:offline cannot be made: ConnectionError: no route to host" in told
    assert "give its `weights` as a file" in told


def test_a_name_that_torchvision_does_not_know(torchvision):
    with pytest.raises(InputError, match=r"torchvision has no network 'tinny'\. Did you mean tiny"):
        load_model("torchvision:tinny")


@pytest.fixture
def timm(monkeypatch):
    """A stand-in for `timm` after its public interface; no network of its own."""
    presets = {
        "tiny": {"input_size": (3, 96, 96), "mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.3)},
        "tiny.other": {"input_size": (3, 64, 64), "mean": (0.5,) * 3, "std": (0.5,) * 3},
        "grey": {"input_size": (1, 28, 28), "mean": (0.1,), "std": (0.3,)},
        "offline": {"input_size": (3, 32, 32)},
    }
    known = ["grey", "offline", "plain", "tiny"]

    def get_pretrained_cfg(name):
        if name == "plain":
            return None
        if name not in presets:
            raise RuntimeError(f"Invalid pretrained tag ({name.split('.')[1]}) for tiny.")
        return SimpleNamespace(to_dict=lambda: presets[name])

    def list_models(pattern="", *, pretrained=False):
        names = sorted(presets) if pretrained else known
        return [name for name in names if pattern.strip("*").rstrip(".") in name]

    def create_model(name, *, pretrained):
        if name == "offline" and pretrained:
            raise ConnectionError("no route to host")
        torch.manual_seed(7 if pretrained else 1)
        return nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))

    library = ModuleType("timm")
    library.is_model = lambda name: name.split(".")[0] in known
    library.list_models = list_models
    library.get_pretrained_cfg = get_pretrained_cfg
    library.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", library)


@pytest.mark.parametrize(
    ("name", "size", "mean", "std"),
    [
        ("tiny", 96, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3)),
        ("tiny.other", 64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ("grey", 28, (0.1,), (0.3,)),
        ("offline", 32, IMAGENET_MEAN, IMAGENET_STD),
        ("plain", 224, IMAGENET_MEAN, IMAGENET_STD),
    ],
)
def test_images_as_the_weights_of_timm_want_them(timm, name, size, mean, std):
    images = find_model(f"timm:{name}").images
    assert (images.size, images.mean, images.std) == (size, mean, std)


def test_timm_without_a_checkpoint_gives_its_own_weights(timm, tmp_path):
    assert equal(load_model("timm:tiny.other"), small())
    torch.manual_seed(9)
    other = nn.Sequential(nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2))
    torch.save(other.state_dict(), tmp_path / "w.pt")
    assert equal(load_model("timm:offline", tmp_path / "w.pt"), other)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("offline", r"timm:offline cannot be made: ConnectionError.*`weights` as a file"),
        ("tinny", r"'tinny'\. Did you mean tiny\? timm\.list_models\(\) names all"),
        ("lin", r"'lin'\. Did you mean offline\? timm"),
        ("xxxxx", r"timm has no network 'xxxxx'\. timm\.list_models\(\) names all"),
        ("tiny.in2k", r"'tiny\.in2k': Invalid pretrained tag \(in2k\) for tiny.*tiny\.other"),
    ],
)
def test_networks_that_timm_does_not_give(timm, name, told):
    with pytest.raises(InputError, match=told):
        load_model(f"timm:{name}")


def test_a_package_with_the_name_of_a_library_in_it_is_ones_own(monkeypatch):
    module = ModuleType("timm.own")
    module.small = small
    monkeypatch.setitem(sys.modules, "timm", ModuleType("timm"))
    monkeypatch.setitem(sys.modules, "timm.own", module)
    assert equal(load_model("timm.own:small"), small())
