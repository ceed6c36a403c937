"""The small decoder pruned, trained by Hugging Face's Trainer, adapted, merged and quantised.

Usage: CHITA_DATA=... python reproduce/train_under_masks.py DECODER [steps]
DECODER is the folder that `train_decoder.py` writes. It is pruned by `alps` to 70 % on
WikiText-2's valid.txt, then trained there for 200 steps under masks, and without; adapters of rank
8 (`peft`) are trained for as many steps on the pruned network and merged, under masks and plainly;
and what came of training under masks is quantised to int8 dynamically. For each, perplexity on the
first 500 sequences of test.txt, and how many removed weights are not zero. Writes
train_under_masks.md beside this file.
"""

import copy
import os
import sys
import tempfile
import warnings
from pathlib import Path

import peft
import torch
from transformers import Trainer, TrainingArguments

import chita
from chita.data.text import text_data
from chita.masks.lora import merge_adapter
from chita.masks.trainer import TrainerKeepZeros
from chita.models.hugging_face import hugging_face_model, tokenizer_of

LENGTH, BATCH, RATE, ADAPTER_RATE, RANK = 128, 16, 3e-4, 1e-3, 8


def sequences(examples):
    """Samples as the Trainer takes them."""
    return [
        {"input_ids": ids, "labels": ids} for part in examples.parts for ids in part["input_ids"]
    ]


def trained(model, rows, steps, rate, callbacks):
    """Train for some steps with a linear schedule; the same order of samples whenever asked."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=steps,
            per_device_train_batch_size=BATCH,
            learning_rate=rate,
            warmup_steps=20,
            max_grad_norm=1.0,
            report_to=[],
            save_strategy="no",
            use_cpu=True,
            disable_tqdm=True,
            logging_steps=50,
            seed=0,
        )
        Trainer(model=model, args=arguments, train_dataset=rows, callbacks=callbacks).train()
    return model


def refilled(model, masks, weight=lambda model, name: model.get_parameter(name)):
    """How many removed weights are not zero."""
    return sum(int(weight(model, name)[~mask].count_nonzero()) for name, mask in masks.items())


def main():
    """Measure each, print, write."""
    warnings.simplefilter("ignore")
    folder, steps = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 200
    spec = hugging_face_model(folder)
    text = Path(os.environ["CHITA_DATA"]) / "wikitext-2"
    calibration, test = text_data(str(text), spec.text, tokenizer_of(spec.text))
    test, rows = test.first(500), sequences(calibration)
    dense = spec.trained()
    lines = []

    def tell(what, model, count):
        value = chita.evaluate(model, test).value
        lines.append((what, value, count))
        print(f"{what}: perplexity {value:.2f}, {count} removed weights are not zero", flush=True)

    tell("dense", dense, "")
    pruned = chita.prune(
        dense, calibration, sparsity=0.7, solver="alps", fisher=chita.Fisher(samples=256)
    )
    masks = pruned.masks
    tell("pruned to 70 % by alps", pruned.model, refilled(pruned.model, masks))
    model = trained(copy.deepcopy(pruned.model), rows, steps, RATE, [TrainerKeepZeros(masks)])
    tell(f"trained for {steps} steps under masks", model, refilled(model, masks))
    free = trained(copy.deepcopy(pruned.model), rows, steps, RATE, [])
    tell(f"trained for {steps} steps without masks", free, refilled(free, masks))
    config = peft.LoraConfig(
        r=RANK,
        lora_alpha=2 * RANK,
        target_modules=sorted({name.split(".")[-2] for name in masks}),
        task_type="CAUSAL_LM",
    )
    adapted = peft.get_peft_model(copy.deepcopy(pruned.model), config)
    adapted = trained(adapted, rows, steps, ADAPTER_RATE, [])
    tell(f"adapters of rank {RANK}, not merged", adapted, "")
    plain = copy.deepcopy(adapted).merge_and_unload()
    tell("merged plainly", plain, refilled(plain, masks))
    merged = merge_adapter(adapted, masks)
    tell("merged under masks", merged.model, refilled(merged.model, masks))
    lost = sum(merged.lost.values()) / len(merged.lost)
    small = torch.ao.quantization.quantize_dynamic(
        copy.deepcopy(model), {torch.nn.Linear}, dtype=torch.qint8
    )

    def weight(quantised, name):
        return quantised.get_submodule(name.removesuffix(".weight")).weight().dequantize()

    tell("trained under masks, then dynamic int8", small, refilled(small, masks, weight))
    table = ["| | perplexity | removed weights that are not zero |", "| --- | --- | --- |"]
    table += [f"| {what} | {value:.2f} | {count} |" for what, value, count in lines]
    removed = sum(int((~mask).sum()) for mask in masks.values())
    told = (
        f"\n{removed:,} weights are removed. Of the squared norm of the adapters' updates, "
        f"{lost:.0%} fell on removed weights (mean over tensors).\n"
    )
    Path(__file__).with_suffix(".md").write_text("\n".join(table) + "\n" + told)


if __name__ == "__main__":
    main()
