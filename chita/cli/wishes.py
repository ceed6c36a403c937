"""Options that people look for and that there are not, with what there is instead."""

from __future__ import annotations

_WISHES: dict[str, str] = {
    "latency speed speedup fps": "Nothing is pruned to a time. chita prune --flops limits "
    "multiply-adds, and chita benchmark measures what zeros buy in each runtime.",
    "channel channels filters heads structured": "Every shape stays as it is: neither channels nor "
    "heads are removed. chita prune has --pattern N:M and --blocks AxB; docs/compare.md names "
    "tools for smaller shapes.",
    "bit bits int8 int4 quantize quantise quant quantization": "Nothing is quantised. Quantise "
    "what chita export --to onnx writes, with scales about zero, which keep zeros "
    "(docs/tasks/export.md). chita export --to sparse --values float16 halves the stored values.",
    "fp16 float16 half bf16 bfloat16": "chita export --to sparse --values float16 stores values "
    "so, and chita prune --storage bfloat16 keeps gradients so; a network stays in its own type.",
    "epochs lr learning-rate optimizer momentum finetune fine-tune retrain": "Training is a group: "
    "chita prune --training.epochs trains between pruning events, with --training.rate, "
    "--training.batch and --training.optimizer (docs/tasks/fine_tuning.md).",
    "batch-size bs": "A pass takes as many samples as suit the memory. chita prune has "
    "--samples-per-gradient for those of one gradient, and --training.batch for training.",
    "method algorithm pruner": "chita prune calls it --solver; chita solvers lists them.",
    "rows nsamples num-samples calibration-samples": "chita prune calls it --samples.",
    "seqlen seq-len max-length sequence-length": "chita prune calls it --length.",
    "ratio amount density": "chita prune has --sparsity, the share of the weights "
    "to remove: 0.9 keeps one weight in ten.",
    "gpu cuda": "chita prune calls it --device: --device cuda.",
    "exclude skip": "chita prune calls it --ignore.",
    "include only": "chita prune calls it --targets.",
    "output output-dir save": "chita prune calls it --out.",
    "threads workers num-workers": "The environment variable OMP_NUM_THREADS says how many threads "
    "compute, and chita sweep --jobs how many runs go on at a time.",
    "accuracy max-drop tolerance": "chita prune --max-loss searches for the sparsity that costs at "
    "most so much.",
}
"""Words, and what to say of them."""

_ANSWERS = {word: answer for words, answer in _WISHES.items() for word in words.split()}


def answer_to(flag: str) -> str | None:
    """Return what there is instead of an option that there is not, None for other words.

    A part of its name is enough, as in `--max-latency`.

    >>> answer_to("--method")
    'chita prune calls it --solver; chita solvers lists them.'
    """
    name = flag.lstrip("-").replace("_", "-").lower()
    return next((_ANSWERS[word] for word in (name, *name.split("-")) if word in _ANSWERS), None)
