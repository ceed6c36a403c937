"""One name for each parameter: in masks, files, enforcement and verification, whatever wraps it."""

import copy
import functools

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

import chita
from chita.errors import CheckpointError, InputError, OutputError
from chita.exports.verify import verify
from chita.masks.fit import read_masks
from chita.masks.torch_prune import from_torch_prune, to_torch_prune
from chita.models.checkpoint import load, load_weights
from chita.models.wrappers import canonical_names, unwrapped

NAMES = ["0.0.weight", "1.weight"]


def network(wrap=nn.Identity, seed=1):
    torch.manual_seed(seed)
    block = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
    return nn.Sequential(block if wrap is nn.Identity else wrap(block), nn.Linear(8, 3))


def compiled(module):
    return torch.compile(module, backend="eager")


def magnitude(model, **options):
    return chita.prune(model, solver="magnitude", sparsity=0.5, **options)


class Inside(nn.Module):
    """A network under a name, which answers for all attributes of what it holds."""

    def __init__(self, inner):
        super().__init__()
        self.net = inner

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("net"), name)

    def forward(self, x):
        return self.net(2 * x)


class Hidden(Inside):
    """The same, with its prefix taken out of the state dict."""

    def state_dict(self, *args, **kwargs):
        return self.net.state_dict(*args, **kwargs)

    def load_state_dict(self, *args, **kwargs):
        return self.net.load_state_dict(*args, **kwargs)


class Parallel(nn.DataParallel):
    """A wrapper of PyTorch with a forward pass of its own."""

    def forward(self, x):
        return self.module(-x)


class Holder(nn.Module):
    """A user's module that calls its part as torch.compile does."""

    def __init__(self, inner):
        super().__init__()
        self._orig_mod = inner

    def forward(self, x):
        return self._orig_mod(x + 1)


@pytest.mark.parametrize("wrap", [Inside, Hidden, Parallel, Holder])
@pytest.mark.parametrize("compiles", [False, True])
def test_a_wrapper_that_computes_is_not_taken_off(wrap, compiles):
    inner = network()
    model = wrap(compiled(inner) if compiles else inner)
    assert unwrapped(model) is model
    x = torch.randn(40, 6)
    data = (x, model(x).argmax(1))
    assert chita.evaluate(model, data).value == 100
    assert type(magnitude(model).model) is wrap


def test_wrappers_of_known_types_are_taken_off():
    class Same(nn.DataParallel):
        pass

    inner = network()
    for wrap in (nn.DataParallel, Same, compiled, lambda m: compiled(Same(m))):
        assert unwrapped(wrap(inner)) is inner
    assert list(magnitude(torch.optim.swa_utils.AveragedModel(inner)).masks) == NAMES


@pytest.mark.parametrize("wrap", [nn.Identity, checkpoint_wrapper, compiled, "hidden"])
def test_a_run_of_any_form_fits_the_plain_network_and_its_own(tmp_path, wrap):
    def made(seed=1):
        return Hidden(network(seed=seed)) if wrap == "hidden" else network(wrap, seed)

    plain, result = magnitude(network()), magnitude(made())
    assert list(result.masks) == [layer.name for layer in result.record.layers] == NAMES
    result.save(tmp_path / "run")
    assert verify(tmp_path / "run").faults == ()
    assert load_file(tmp_path / "run/model.safetensors").keys() == network().state_dict().keys()
    tensors = load(tmp_path / "run")
    for fresh in (network(seed=2), made(seed=2)):
        load_weights(fresh, tensors)
        x = torch.randn(5, 6)
        if fresh.__class__ is result.model.__class__:
            assert torch.equal(fresh(x), result.model(x))
        copies = [network(), made()]
        enforcer = chita.Enforcer(fresh, tmp_path / "run", copies=copies)
        removed = sum(int((~mask).sum()) for mask in enforcer.masks.values())
        for follows in copies:
            matrices = [weight for weight in follows.parameters() if weight.ndim > 1]
            assert sum(int((weight == 0).sum()) for weight in matrices) == removed
        assert list(enforcer.masks) == NAMES
        assert all(torch.equal(enforcer.masks[n], mask) for n, mask in plain.masks.items())
        assert chita.apply_masks(fresh, result.masks).record.nnz == result.record.nnz
    result.export(tmp_path / "dense.safetensors", "dense")
    assert verify(tmp_path / "dense.safetensors", tmp_path / "run").faults == ()


def test_paths_and_names_are_both_rules():
    model = network(checkpoint_wrapper)
    path = "0._checkpoint_wrapped_module.0.weight"
    assert canonical_names(model)[path] == NAMES[0]
    for rule in (path, NAMES[0]):
        assert list(magnitude(model, targets=rule).masks) == NAMES[:1]
        assert list(magnitude(model, ignore=rule).masks) == NAMES[1:]


def test_plans_tables_and_levels_have_these_names():
    model = network(checkpoint_wrapper)
    planned = chita.plan(model, sparsity=0.5, solver="magnitude").tensors
    assert [tensor.name for tensor in planned if tensor.pruned] == NAMES
    data = (torch.randn(20, 6), torch.arange(20) % 3)
    found = chita.sensitivity(model, data, solver="magnitude", sparsities=[0.5], validation=5)
    assert [tensor.name for tensor in found.record.tensors] == NAMES
    assert {level.tensor for level in found.record.levels} == {*NAMES}
    budget = chita.Quotas({NAMES[0]: 0.25, "0._checkpoint_wrapped_module.0": 0.5, "1": 0.5})
    result = chita.prune(model, solver="magnitude", budget=budget)
    assert [layer.kept for layer in result.layers] == [24, 12]


def test_the_form_of_torch_prune_has_the_same_names():
    model = network(compiled)
    masks = magnitude(network()).masks
    to_torch_prune(model, masks)
    found = from_torch_prune(model)
    assert all(torch.equal(found[name], mask) for name, mask in masks.items())


def test_tensors_that_would_have_one_plain_name_stay_two(tmp_path):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Module()
            self.a._orig_mod = nn.Linear(3, 4)
            self.a.weight = nn.Parameter(torch.randn(2, 4))

    result = chita.prune(Both(), solver="magnitude", sparsity=0.5)
    result.save(tmp_path / "run")
    assert {"a._orig_mod.weight", "a.weight"} < load_file(tmp_path / "run/model.safetensors").keys()


def test_a_run_folder_is_verified_before_it_is_there(tmp_path):
    class Partial(Inside):
        def state_dict(self, *args, **kwargs):
            state = super().state_dict(*args, **kwargs)
            return {name: tensor for name, tensor in state.items() if name != "net.1.weight"}

    with pytest.raises(OutputError, match=r"masks of net\.1\.weight"):
        magnitude(Partial(network())).save(tmp_path / "run")
    result = magnitude(network())
    with torch.no_grad():
        result.model[1].weight.add_(1)
    with pytest.raises(OutputError, match=r"1\.weight: 12 of 12 removed weights are not zero"):
        result.save(tmp_path / "run")
    assert not list(tmp_path.iterdir())
    chita.apply_masks(result.model, result.masks).save(tmp_path / "run")


PREFIXES = ["model.", "net.", "module.", "_orig_mod.", "base_model.model.", "a.b.c."]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_prefix_that_all_tensors_share(tmp_path, prefix):
    result = magnitude(network())
    result.save(tmp_path / "run")
    state = {f"{prefix}{name}": t.clone() for name, t in result.model.state_dict().items()}
    fresh = network(seed=2)
    load_weights(fresh, state)
    assert torch.equal(fresh[1].weight, result.model[1].weight)
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {**state, "criterion.weight": torch.ones(3)}}, path)
    assert verify(path, tmp_path / "run").faults == ()
    found = read_masks(path, network())
    assert all(torch.equal(found[name], mask) for name, mask in result.masks.items())
    longer = {f"{prefix}{name}": mask for name, mask in result.masks.items()}
    assert chita.apply_masks(network(), longer).record.nnz == result.record.nnz
    state[f"{prefix}1.weight"] += 1
    torch.save(state, path)
    assert len(verify(path, tmp_path / "run").faults) == 1


def test_a_prefix_of_the_network(tmp_path):
    result = magnitude(network())
    result.save(tmp_path / "run")
    enforcer = chita.Enforcer(Inside(network()), tmp_path / "run")
    assert list(enforcer.masks) == [f"net.{name}" for name in NAMES]
    wrapped = Inside(network(seed=2))
    load_weights(wrapped, load(tmp_path / "run"))
    assert torch.equal(wrapped.net[1].weight, result.model[1].weight)
    magnitude(Inside(network())).save(tmp_path / "longer")
    torch.save(result.model.state_dict(), tmp_path / "plain.pt")
    assert verify(tmp_path / "plain.pt", tmp_path / "longer").faults == ()


def test_two_networks_in_one_checkpoint_are_not_guessed_at(tmp_path):
    result = magnitude(network())
    result.save(tmp_path / "run")
    state = result.model.state_dict()
    both = {f"{prefix}.{name}": t.clone() for name, t in state.items() for prefix in ("net", "ema")}
    torch.save(both, tmp_path / "both.pt")
    with pytest.raises(CheckpointError, match=r"several prefixes: ema\., net\."):
        verify(tmp_path / "both.pt", tmp_path / "run")
    pair = nn.ModuleDict({"net": network(), "ema": network()})
    with pytest.raises(CheckpointError, match="several prefixes"):
        chita.Enforcer(pair, result.masks)
    part = {f"net.{name}": t for name, t in state.items() if name != "1.weight"}
    torch.save(part, tmp_path / "part.pt")
    with pytest.raises(CheckpointError, match=r"masks of 0\.0\.weight, 1\.weight"):
        verify(tmp_path / "part.pt", tmp_path / "run")


def test_a_copy_of_another_form_follows(tmp_path):
    model = network()
    average = torch.optim.swa_utils.AveragedModel(network(checkpoint_wrapper))
    enforcer = chita.Enforcer(model, magnitude(network()).masks, copies=[average])
    inside = copy.deepcopy(average.module.state_dict())
    assert not inside[NAMES[0]][~enforcer.masks[NAMES[0]]].any()


def test_masks_of_no_parameter_are_refused():
    masks = {"0.0.weight": torch.ones(8, 6), "2.weight": torch.ones(3, 8)}
    with pytest.raises(InputError, match=r"no parameter 2\.weight, for .* it has 0\.0\.weight"):
        chita.apply_masks(network(), masks)


def lambda_around(forward):
    return lambda x: forward(x) + 0


def wrapped(forward):
    @functools.wraps(forward)
    def call(*args):
        return forward(*args)

    return call


@pytest.mark.parametrize(
    "around", [lambda_around, wrapped, lambda f: torch.compile(f, backend="eager")]
)
@pytest.mark.parametrize("part", ["", "0.0"])
def test_a_forward_pass_that_a_copy_would_share_is_refused(around, part):
    model = network()
    module = model.get_submodule(part)
    module.forward = around(module.forward)
    with pytest.raises(InputError, match="so a copy would use that"):
        magnitude(model)
    x = torch.randn(3, 6)
    before = model(x)
    result = magnitude(model, inplace=True)
    assert not torch.equal(result.model(x), before)


def test_forward_passes_of_their_own_are_copied():
    model = network()
    model[1].forward = lambda x: 2 * x[:, :3]
    assert magnitude(model, ignore="1").record.nnz == 24


def test_the_form_of_torch_prune_is_verified_after_training(tmp_path):
    result = magnitude(network())
    result.save(tmp_path / "run")
    model = network()
    model.load_state_dict(load_file(tmp_path / "run" / "model.safetensors"))
    to_torch_prune(model, result.masks)
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(state, tmp_path / "trained.pt")
    assert verify(tmp_path / "trained.pt", tmp_path / "run").faults == ()


def test_a_tensor_called_as_the_format_of_its_file_is_no_alias(tmp_path):
    model = network()
    model.pt = nn.Parameter(torch.ones(2))
    magnitude(model, ignore="pt").save(tmp_path / "run")
    assert "format" not in load(tmp_path / "run")


def test_weights_are_loaded_into_what_a_wrapper_holds():
    state = network(seed=2).state_dict()
    for holder in (nn.DataParallel, torch.optim.swa_utils.AveragedModel):
        model = holder(network())
        load_weights(model, state)
        assert torch.equal(model.module[1].weight, state["1.weight"])
