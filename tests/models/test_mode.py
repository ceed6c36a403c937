import pytest
import torch
from torch import nn

from chita.models.mode import evaluation_mode, own_modes


def test_flags_come_back_even_when_the_block_fails():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model[1].eval()

    def block():
        with evaluation_mode(model):
            assert not any(module.training for module in model.modules())
            raise KeyError

    with pytest.raises(KeyError):
        block()
    assert [module.training for module in model.modules()] == [True, True, False]


KINDS = [("generic", "all")]
KINDS += [(on, of) for of in ("all", "matmul", "conv", "rnn") for on in ("cuda", "mkldnn")]
FLAGS = [
    torch.get_float32_matmul_precision,
    lambda: torch.backends.cuda.matmul.allow_tf32,
    lambda: torch.backends.cudnn.allow_tf32,
]
PRECISIONS = {
    "as it is": lambda: None,
    "everything": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
    "of a backend": lambda: setattr(torch.backends.cudnn, "fp32_precision", "tf32"),
    "products": lambda: torch.set_float32_matmul_precision("medium"),
    "convolutions": lambda: setattr(torch.backends.mkldnn.conv, "fp32_precision", "bf16"),
    "convolutions on GPUs": lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
    "recurrent layers": lambda: setattr(torch.backends.cudnn.rnn, "fp32_precision", "ieee"),
    "the older flag": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
}


def precisions():
    """What every setting holds itself: wider ones, of which others inherit, are unset first."""
    held = []
    for kind in KINDS:
        held.append(torch._C._get_fp32_precision_getter(*kind))
        torch._C._set_fp32_precision_setter(*kind, "none")
    put_back(held)
    return held


def put_back(held):
    for kind, value in zip(KINDS, held, strict=True):
        torch._C._set_fp32_precision_setter(*kind, value)


def flags():
    """The older flags, as far as they can be read: the newer settings may contradict them."""
    found = []
    for read in FLAGS:
        try:
            found.append(read())
        except RuntimeError:
            found.append("contradicted")
    return found


@pytest.mark.skipif(not hasattr(torch._C, "_get_fp32_precision_getter"), reason="since PyTorch 2.9")
@pytest.mark.parametrize("name", PRECISIONS)
def test_float32_is_not_rounded_inside_and_all_settings_are_as_before(name):
    whole = precisions()
    try:
        PRECISIONS[name]()
        before = precisions(), flags()
        with own_modes():
            effective = {torch._C._get_fp32_precision_getter(*kind) for kind in KINDS}
            assert effective <= {"none", "ieee"}
            if "GPUs" not in name and name != "recurrent layers":  # else contradicted outside, too
                assert flags() == ["highest", False, False]
        assert (precisions(), flags()) == before
    finally:
        torch.backends.cudnn.allow_tf32 = True
        torch.set_float32_matmul_precision("highest")
        put_back(whole)
