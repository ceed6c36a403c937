"""Zeros through the Trainer of transformers, a merge of adapters, and dynamic quantisation."""

import copy
import warnings

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

import chita
from chita.errors import InputError
from chita.masks.lora import merge_adapter
from chita.masks.storage import load_masks
from chita.masks.trainer import TrainerKeepZeros


def decoder():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=16,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def sequences(count=32):
    ids = torch.randint(50, (count, 8), generator=torch.Generator().manual_seed(1))
    return [{"input_ids": row, "labels": row} for row in ids]


def pruned():
    found = chita.prune(decoder(), solver="magnitude", sparsity=0.6)
    return found.model, found.masks


def trained(model, folder, callbacks, **arguments):
    asked = {
        "output_dir": str(folder),
        "max_steps": 6,
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 2,
        "max_grad_norm": 1.0,
        "weight_decay": 0.1,
        "learning_rate": 1e-2,
        "report_to": [],
        "use_cpu": True,
        "save_steps": 3,
        "disable_tqdm": True,
        "logging_strategy": "no",
        "dataloader_pin_memory": False,
    }
    return Trainer(
        model=model,
        args=TrainingArguments(**{**asked, **arguments}),
        train_dataset=sequences(),
        callbacks=callbacks,
    )


def refilled(model, masks):
    return {n for n, mask in masks.items() if bool(model.get_parameter(n)[~mask].any())}


@pytest.fixture(autouse=True)
def _warnings_of_others():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries about each other
        yield


def test_zeros_are_exact_after_training_and_in_every_checkpoint(tmp_path):
    model, masks = pruned()
    before = copy.deepcopy(model)
    trained(model, tmp_path, [TrainerKeepZeros(masks)], bf16=True).train()
    assert not refilled(model, masks)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before.get_parameter(n))}
    assert masks.keys() <= moved
    for step in (3, 6):
        folder = tmp_path / f"checkpoint-{step}"
        kept = load_masks(folder / "masks.safetensors")
        assert all(torch.equal(kept[n], masks[n]) for n in masks)
        assert not refilled(LlamaForCausalLM.from_pretrained(folder), masks)


def test_without_the_callback_they_are_refilled(tmp_path):
    model, masks = pruned()
    trained(model, tmp_path, []).train()
    assert refilled(model, masks) == masks.keys()


def test_a_run_that_goes_on_from_a_checkpoint_keeps_them(tmp_path):
    model, masks = pruned()
    trained(model, tmp_path, [TrainerKeepZeros(masks)]).train()
    again, _ = pruned()
    trained(again, tmp_path, [TrainerKeepZeros(masks)], max_steps=9).train(
        resume_from_checkpoint=str(tmp_path / "checkpoint-3")
    )
    assert not refilled(again, masks)


def test_an_adapter_is_merged_under_masks(tmp_path):
    peft = pytest.importorskip("peft")
    model, masks = pruned()
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(copy.deepcopy(model), config)
    with pytest.raises(InputError, match="has adapters"):
        trained(adapted, tmp_path, [TrainerKeepZeros(masks)]).train()
    adapted = peft.get_peft_model(copy.deepcopy(model), config)
    trained(adapted, tmp_path, []).train()
    plain = copy.deepcopy(adapted).merge_and_unload()
    assert refilled(plain, masks)
    merged = merge_adapter(adapted, masks)
    assert not refilled(merged.model, masks)
    assert set(merged.lost) == {n for n in masks if "q_proj" in n or "down_proj" in n}
    for name, mask in masks.items():
        weight, dense = merged.model.get_parameter(name), plain.get_parameter(name)
        assert torch.equal(weight, dense * mask)
        if name in merged.lost:
            update = dense - model.get_parameter(name)
            share = float((update * ~mask).norm() ** 2 / update.norm() ** 2)
            assert merged.lost[name] == pytest.approx(share, rel=1e-4)
            assert 0 < merged.lost[name] < 1
    with pytest.raises(InputError, match="no adapters"):
        merge_adapter(model, masks)


def test_dynamic_quantisation_keeps_them():
    model, masks = pruned()
    small = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    found = 0
    for name, mask in masks.items():
        weight = small.get_submodule(name.removesuffix(".weight")).weight()
        assert not weight.dequantize()[~mask].any()
        assert weight.int_repr()[mask].any()
        found += 1
    assert found == len(masks)
