"""Networks with adapters, and wrappers that answer for a network of transformers."""

import copy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import chita
from chita.errors import InputError
from chita.masks.lora import merge_adapter

peft = pytest.importorskip("peft")
pytestmark = pytest.mark.filterwarnings("ignore")  # of peft, about what transformers renamed
LORA = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)


def decoder():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=8,
        bos_token_id=0,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


class Answering(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("network"), name)

    def forward(self, **inputs):
        return self.network(**inputs)


def injected(model):
    model.add_adapter(LORA)
    return model


ADAPTED = {
    "lora": lambda model: peft.get_peft_model(model, LORA),
    "injected": injected,
    "wrapped": lambda model: Answering(peft.get_peft_model(model, LORA)),
    "prompts": lambda model: peft.get_peft_model(
        model, peft.PrefixTuningConfig("CAUSAL_LM", num_virtual_tokens=2, prefix_projection=True)
    ),
    "ia3": lambda model: peft.get_peft_model(
        model, peft.IA3Config("CAUSAL_LM", target_modules=["q_proj"], feedforward_modules=[])
    ),
}


@pytest.mark.parametrize("kind", ADAPTED)
def test_adapters_are_refused_before_any_work(kind):
    adapted = ADAPTED[kind](decoder())
    before = copy.deepcopy(adapted.state_dict())
    masks = {"lm_head.weight": torch.ones(20, 8)}
    for work in (
        lambda: chita.prune(adapted, solver="magnitude", sparsity=0.5, inplace=True),
        lambda: chita.plan(adapted),
        lambda: chita.Enforcer(adapted, masks),
        lambda: chita.apply_masks(adapted, masks, inplace=True),
    ):
        with pytest.raises(InputError, match=r"has adapters \(peft\).*Prune the network first"):
            work()
    assert all(torch.equal(t, before[name]) for name, t in adapted.state_dict().items())


def test_a_network_whose_adapters_are_merged_is_a_network_again(tmp_path):
    merged = ADAPTED["lora"](decoder()).merge_and_unload()
    result = chita.prune(merged, solver="magnitude", sparsity=0.5)
    result.save(tmp_path / "run")
    again, ids = LlamaForCausalLM.from_pretrained(tmp_path / "run").eval(), torch.arange(8)[None]
    assert torch.equal(again(ids).logits, result.model(ids).logits)
    adapted = peft.get_peft_model(copy.deepcopy(result.model), LORA)
    assert not chita.Enforcer(merge_adapter(adapted, result.masks).model, result.masks).refilled()


def test_a_wrapper_that_answers_for_adapters_is_not_merged_away():
    result = chita.prune(decoder(), solver="magnitude", sparsity=0.5)
    with pytest.raises(InputError, match="Answering has no adapters to merge"):
        merge_adapter(ADAPTED["wrapped"](result.model), result.masks)


def test_a_wrapper_that_answers_for_transformers_is_none_of_its_networks(tmp_path):
    class Hub(nn.Linear):
        config = ()

        def save_pretrained(self, folder):
            raise NotImplementedError

    chita.prune(Answering(decoder()), solver="magnitude", sparsity=0.5).save(tmp_path / "wrapped")
    chita.prune(Hub(3, 4), solver="magnitude", sparsity=0.5).save(tmp_path / "hub")
    chita.prune(decoder(), solver="magnitude", sparsity=0.5).save(tmp_path / "own")
    found = [folder.name for folder in tmp_path.iterdir() if (folder / "config.json").exists()]
    assert found == ["own"]
