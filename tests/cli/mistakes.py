"""Mistakes, each with words of the message that it gets."""

import io

import torch


def listed(_):
    """A file of PyTorch's that holds tensors without names."""
    file = io.BytesIO()
    torch.save([torch.ones(2)], file)
    return file.getvalue()


BUDGETS = [
    (["--sparsity", "-0.1"], "--sparsity is -0.1; give a number of at least 0 and below 1"),
    (["--sparsity", "1"], "--sparsity is 1.0; give a number of at least 0 and below 1"),
    (["--sparsity", "1.5"], "at least 0 and below 1"),
    (["--sparsity", "nan"], "--sparsity is nan"),
    (["--sparsity", "0.5", "--nnz", "5"], "got --sparsity and --nnz"),
    (["--nnz", "0"], "--nnz is 0; give a whole number of at least 1"),
    (["--nnz", "-3"], "at least 1"),
    (["--nnz", "17025"], "keep between 1 and 17024"),
    (["--nnz", "20", "--min-keep", "10"], "30 at least over 3 tensors. Keep more, or lower"),
    (["--nnz", "20", "--min-keep", "-1"], "--min-keep is -1"),
    (["--pattern", "2-4"], "pattern is '2-4'; write N:M"),
    (["--pattern", "5:4"], "5:4 keeps more weights than there are"),
    (["--pattern", "0:4"], "`n` is 0; give a whole number of at least 1. Weights kept of every m"),
    (["--pattern", "2:4", "--sparsity", "0.5"], "the pattern says how many weights are kept"),
    (
        ["--pattern", "2:5"],
        "fc1.weight has 64 inputs, fc2.weight has 128 inputs, fc3.weight has 64",
    ),
    (["--pattern", "2:128"], "Leave them out with --ignore: fc1.weight, fc3.weight"),
    (["--pattern", "2:4", "--flops", "0.5"], "--pattern and --flops are budgets of their own"),
    (["--blocks", "4x1"], "--blocks needs --sparsity"),
    (["--blocks", "4x1", "--nnz", "400"], "takes no --nnz"),
    (["--blocks", "4by1", "--sparsity", "0.5"], "blocks is '4by1'; write outputs x inputs"),
    (["--blocks", "0x1", "--sparsity", "0.5"], "`rows` is 0; give a whole number"),
    (["--blocks", "16x1", "--sparsity", "0.5"], "16 and inputs that 1 divides: fc3.weight has 10"),
    (["--blocks", "2x2", "--sparsity", "0.9999"], "keeps 0 of 4256 blocks of 4 weights, but 3"),
    (["--per-layer", "erk"], "--per-layer needs --sparsity"),
    (
        ["--per-layer", "erq", "--sparsity", "0.5"],
        "--per-layer erq is neither one of uniform, erk, outputs, search, owl, nor a file",
    ),
    (["--per-layer", "search"], "Give one of --sparsity (share removed"),
    (["--per-layer", "search", "--pattern", "2:4"], "--pattern and --per-layer are"),
    (["--megabytes", "0"], "--megabytes is 0.0; give a number above 0. Millions of bytes"),
    (["--megabytes", "0.002"], "takes 2,128, and the 3 weights that are kept at least 12. Give at"),
    (["--megabytes", "1", "--blocks", "4x1"], "takes no --megabytes"),
    (["--flops", "0"], "--flops is 0.0; give a number above 0 and at most 1"),
    (["--flops", "30"], "above 0 and at most 1"),
    (["--flops", "0.0001"], "3 weights that --min-keep keeps 6. Ask for at least 0.0001763"),
    (["--flops", "0.5", "--sparsity", "0.5", "--nnz", "9"], "got --sparsity and --nnz"),
    (["--flops", "0.5", "--nnz", "2"], "2 of 17024 weights are to be kept, but 3 at least"),
]

USAGE = [
    (["--colour", "red"], "Unknown option: --colour"),
    (["--spasity", "0.5"], "--sparsity"),
    (["--sparsity"], "--sparsity requires a value"),
    (["too", "much"], "Unexpected arguments: too much"),
    (["--sparsity", "0.5", "--no-quiet"], "Unknown option: --no-quiet"),
]

VALUES = [
    (["--sparsity", "0,5"], "--sparsity is '0,5'; give a number of at least 0 and below 1"),
    (["--samples", "1e3"], "--samples is '1e3'; give a whole number"),
    (["--out", "a\0b"], "give a path without null bytes"),
    (["--model", "digits-mpl"], "Unknown model 'digits-mpl'. Did you mean digits-mlp"),
    (["--model", "own:lock:net"], "Unknown model 'own:lock:net'"),  # and no picture of a lock
    (["--solver", "magnitud"], "Did you mean magnitude"),
    (["--solver", "mag"], "Unknown solver 'mag'. Did you mean magnitude?"),
    (["--option", "max_round=3"], "no option 'max_round'. Did you mean max_rounds"),
    (["--option", "max_rounds"], "give a whole number"),
    (["--option", "max_rounds=2.5"], "max_rounds is '2.5'; give a whole number"),
    (["--solver", "mfac", "--option", "update=maybe"], "update is 'maybe'; give True or False"),
    (["--solver", "cbs", "--option", "seed=-1"], "cbs: seed is -1; give"),
    (["--data", "digit"], "Did you mean digits"),
    (["--data", "digits.npz"], "The data digits.npz do not exist"),
    (["--data", ""], "two class folders"),
    (["--loss", "cross_entropi"], "Did you mean cross_entropy"),
    (["--labels", "modle"], "give one of 'data', 'model'. Did you mean model?"),
    (["--device", "cud"], "'cud' cannot be used here"),
    (["--device", "cuda:99"], "'cuda:99' cannot be used here"),
    (["--ridge", "strong"], "--ridge is 'strong'; give a number"),
    (["--ridge", "-1"], "--ridge is -1"),
    (["--first-order", "inf"], "--first-order is inf"),
    (["--structure", "500"], "--structure is '500'; give one of 'auto', 'full', 'outputs'"),
    (["--solver", "mfac", "--structure", "outputs"], "mfac takes the Fisher in full"),
    (["--samples", 0], "--samples is 0; give a whole number of at least 1. Gradients"),
    (["--samples-per-gradient", 0], "--samples-per-gradient is 0"),
    (["--seed", -1], "--seed is -1"),
    (["--image-mean", "a,b"], "--image-mean is 'a,b'; give numbers"),
    (["--image-size", 0], "--image-size is 0"),
    (["--targets", "fcc1"], "'fcc1' (did you mean fc1?)"),
    (["--ignore", "Linaer"], "'Linaer' (did you mean Linear?)"),
    (["--targets", "fc1", "--targets", "conv*"], "matched by 'conv*'"),
    (["--ignore", "*"], "nothing to prune"),
    (["--targets", "re:fc("], "'re:fc(', which is no regular expression"),
    (["--targets", ""], "give names, globs, re: patterns"),
]

# Names of files, and their content from that of a sound checkpoint.
FILES = [
    ("absent", None, "The file absent does not exist"),
    ("folder", None, "The folder folder holds no model.safetensors"),
    ("a" * 300, None, "too long"),
    ("/dev/null", None, "does not exist"),
    ("cut.safetensors", lambda whole: whole[:-50], "not a readable safetensors file"),
    ("head.safetensors", lambda whole: whole[:20], "not a readable safetensors file"),
    ("empty.safetensors", lambda whole: b"", "not a readable safetensors file"),
    ("cut.bin", lambda whole: whole[:-50], "neither a safetensors nor a PyTorch file"),
    ("note.txt", lambda whole: b"hello world", "Check that the file is complete"),
    ("list.pt", listed, "no named tensors"),
]

STRANGE = [
    (lambda t: t.to_sparse(), "sharded (DTensor) or without values: fc1.weight. Save"),
    (lambda t: t.to("meta"), "sharded (DTensor) or without values: fc1.weight. Save"),
    (lambda t: t.to(torch.complex64), "fc1.weight: torch.complex64, the network has"),
    (lambda t: (t + torch.nan).to(torch.float8_e4m3fn), "fc1.weight: NaN or infinite values"),
]

# Files of `write_masks`.
MASKS = [
    ("none.masks", "keep no weight at all"),
    ("empty.masks", "There are no masks"),
    ("other.masks", "no parameter conv1.weight, for which there are masks"),
    ("shape.masks", "fc2.weight has shape (3, 3), expected (64, 128)"),
    ("cut.safetensors", "not a readable safetensors file"),
    ("flipped.masks", "is not a mask file of format"),
    ("dense.safetensors", "has no zero in any prunable tensor"),
]

# 60 samples, a sound network on them, and what is wrong in the function `given`.
OWN = """
import torch
from torch import nn
from chita.models.digits import DigitsMLP

x = torch.linspace(-1, 1, 60 * 64).sin().view(60, 1, 8, 8)
y = torch.arange(60) % 10

class Raises(nn.Module):
    def forward(self, x):
        raise ValueError("boom")

class Broken:
    def __iter__(self):
        yield x[:10], y[:10]
        raise KeyError("shard 2")

class Once:
    spent = False
    def __iter__(self):
        batches = [] if self.spent else [(x, y)]
        self.spent = True
        return (batch for batch in batches)

def broken_weight(name, value):
    network = DigitsMLP()
    network.get_parameter(name).data.view(-1)[0] = value
    return network

def given({arguments}):
    {body}
"""

# Bodies of `given`.
NETWORKS = [
    ("raise RuntimeError('no net')", "given fails: RuntimeError: no net"),
    ("return None", "returned a NoneType; it must return a torch.nn.Module"),
    ("return DigitsMLP", "returned a type; it must return a torch.nn.Module"),
    ("raise SystemExit(0)", "ended the program (exit code 0). Take its sys.exit out"),
    ("return nn.ReLU()", "nothing to prune: ReLU"),
    ("return DigitsMLP().to('meta')", "no data"),
    ("return nn.Sequential(DigitsMLP(), Raises())", "fails in 1 (Raises): ValueError: boom"),
    ("return nn.Sequential(nn.Flatten(), nn.Linear(63, 10))", "fails in 1 (Linear)"),
]


LOADERS = [
    ("return [], None", "hold 0"),
    ("return (x, y), []", "yield no batch"),
    ("return (x[:0], y[:0]), None", "hold no sample"),
    ("return ((x[i:i+5], y[i:i+5]) for i in range(0, 60, 5)), None", "can be read only once"),
    ("return (x, y), iter([(x, y)])", "can be read only once"),
    ("return Once(), None", "yields nothing the second time"),
    ("yield x, y", "returned a generator; it must return (calibration, evaluation)"),
    ("return (x, y + 95), None", "they must lie in 0 to 9"),
    ("return (x, y - 95), None", "they must lie in 0 to 9"),
    ("return (x[:19], y[:19]), None", "need 20 samples"),
    ("return [(x[:5], y[:5])] * 3, None", "hold 15"),
    ("raise OSError('no such disk')", "given fails: OSError: no such disk"),
    ("raise SystemExit('bye')", "ended the program (exit code bye)"),
    ("return x", "returned a Tensor; it must return"),
    ("return x, y, None", "returned a tuple; it must return"),
    ("return None, (x, y)", "it must return (calibration, evaluation)"),
    ("return 'calibration', None", "The data are a str; give a pair"),
    ("return [x], None", "without a tensor of targets"),
    ("return [(x, y, y)], None", "takes pairs (inputs, targets)"),
    ("return [(x[i], y[i]) for i in range(60)], None", "a single sample"),
    ("return (x * float('nan'), y), None", "NaN or infinite values; clean the data"),
    ("return (x, y.float()), None", "The loss cross_entropy fails"),
    ("return (x[..., :7], y), None", "fails in fc1 (Linear)"),
    ("return Broken(), None", "KeyError"),
    ("return (x, y), Broken()", "KeyError"),
    ("return (x, y), (x, y + 95)", "must lie in 0 to 9"),
]

LOSSES = [
    ("raise ValueError('no loss')", "ValueError: no loss"),
    ("return None", "returned NoneType; it must return a scalar"),
    ("return model(batch[0])", "it must return a scalar"),
    ("return torch.tensor(3.0)", "All gradients are zero"),
    ("return model(batch[0]).sum() * float('nan')", "not finite"),
    ("raise SystemExit", "ended the program"),
]

# To be added to OWN: a forward pass that sleeps once it is differentiated.
SLOW = """
def slow(x):
    if torch.is_grad_enabled():
        import pathlib, time
        pathlib.Path("collecting").touch()
        time.sleep(60)
    return x.flatten(1)[:, :10]
"""

# Run files.
SETTINGS = [
    ("sample = 5", "'sample': Did you mean samples"),
    ("samples-per-gradiant = 5\ncolour = 1", "'samples_per_gradiant': Did you mean samples_per_g"),
    ("[prune]\nsamples = 5", "'prune'"),
    ("[fisher]\nsample = 5", "'fisher.sample': Did you mean samples"),
    ("'fishr.samples' = 5", "'fishr.samples': Did you mean samples"),
    ("fisher = 'improved'", "fisher = 'improved'; give a table [fisher] or --weighting."),
    ("fisher = 5", "fisher = 5; give a table [fisher]."),
    ("[report]\nquiet = true", "'report.quiet', which is only for the command line"),
    ("[training]\nepoch = 5", "'training.epoch': Did you mean epochs"),
    ("training = 5", "training = 5; give a table [training]"),
    ("samples = true", "--samples is True; give a whole number"),
    ("samples = 20.5", "--samples is 20.5"),
    ("samples = '20'\nseed = [1]", "--seed is [1]; give a whole number"),
    ("samples = '20'", "--samples is '20'"),
    ("nnz = true", "--nnz is True"),
    ("sparsity = true", "--sparsity is True; give a number"),
    ("sparsity = '0.5'", "--sparsity is '0.5'"),
    ("sparsity = nan", "--sparsity is nan"),
    ("min-keep = false", "--min-keep is False"),
    ("first_order = true", "--first-order is True"),
    ("ridge = true", "is True"),
    ("force = 1", "--force is 1; give True or False"),
    ("allow_pickle = 'yes'", "--allow-pickle is 'yes'; give True or False"),
    ("model = 3", "--model is 3; give a text"),
    ("weights = 3", "--weights is 3; give a path. Checkpoint"),
    ("targets = [1]", "--targets is [1]; give a text, or a list of texts"),
    ("options = 3", "--option is 3; give a table"),
    ("options = {max_rounds = true}", "is True"),
    ("options = {max_rounds = [1]}", "--option is {'max_rounds': [1]}; give a table of numbers"),
    ("options = {max_round = 3}", "Did you mean max_rounds"),
    ("labels = 'modle'", "one of 'data', 'model'"),
    ('out = "a\\u0000b"', "null byte"),
    ("samples-per-gradient = 1\nsamples_per_gradient = 2", "the same option. Keep one"),
    ("seed = 3\n[stages]\ncuont = 2\ncolour = 1", "'stages.cuont': Did you mean count? 'stages"),
    ("samples = 1\n[fisher]\nsamples = 2", "samples and fisher.samples, the same option"),
    ("json = true", "'json'"),  # what is said of a run is no setting of it
    ("samples = ", "is not TOML"),
    ("samples", "is not TOML"),
    ("samples = 2\nsamples = 3", "is not TOML"),
    (b"\xff\xfe", "Save it as UTF-8."),
]
