"""A decoder of Hugging Face's, pruned layer by layer: `python decoder_by_layers.py`.

The decoder is tiny and its weights are random, so that nothing is downloaded; for one of your own
write `from_pretrained(FOLDER)` in place of `decoder()`, and your tokens in place of `tokens()`.
Errors are ‖XŴ - XW‖²/‖XW‖², the mean over layers: small where weights are trained, not so here.
"""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import chita


def decoder():
    """Two blocks of grouped-query attention and gated layers, 128 wide."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256, hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        initializer_range=0.08, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def tokens(count, length=64):
    """Sequences of tokens, some far more frequent than others, as words are."""
    share = 1 / torch.arange(1, 257)
    drawn = torch.multinomial(share, count * length, replacement=True).view(count, length)
    return {"input_ids": drawn, "labels": drawn}


def main():
    """Prune by four solvers, at 70 % and to 2:4, and tell what the outputs of layers lose."""
    model, calibration = decoder(), tokens(64)
    for budget in ("sparsity=0.7", "2:4"):
        for solver in ("magnitude", "wanda", "sparsegpt", "alps"):
            result = chita.prune(
                model, calibration, budget=budget, solver=solver, layerwise=True, ignore="lm_head"
            )
            errors = [layer.solved.error for layer in result.layers]
            kept = f"{result.record.nnz:,} of {result.record.prunable:,} weights kept"
            print(f"{solver:10} {kept}, error {100 * sum(errors) / len(errors):.1f} %")

    result.save("decoder-pruned", force=True)
    again = LlamaForCausalLM.from_pretrained("decoder-pruned")
    zeros = sum(int((weight == 0).sum()) for weight in again.model.layers.parameters())
    print(f"loaded by from_pretrained: {zeros:,} zeros in its blocks")


if __name__ == "__main__":
    main()
