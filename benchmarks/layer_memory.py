"""Peak memory of pruning layer by layer, by depth of the network and by --max-memory.

Usage: python benchmarks/layer_memory.py
Llama-shaped networks of random weights (width 512, inner width 2048, 5.2 million weights a block, 2
to 8 blocks), 128 random sequences of 128 tokens, `alps` at 0.7, in place, a process for each. What
a run adds to the process after loading, at its peak, stands beside what one block makes necessary:
its Gram matrices in float64 and, for the largest layer, three more matrices of that size and ten of
its weights; and beside the activations of a block for all sequences, which are kept in memory or
written to files. Writes benchmarks/results/layer_memory.json.
"""

import json
import subprocess
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import chita
from chita.machine import resident_memory
from chita.records import peak_rss_mb, versions

RESULTS = Path(__file__).parent / "results"
WIDTH, INNER, TOKENS, SEQUENCES = 512, 2048, 128, 128


def decoder(blocks):
    """A network of so many blocks."""
    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=blocks,
        num_attention_heads=8,
        max_position_embeddings=TOKENS,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()


def needed():
    """MB of the Gram matrices of a block, and of what the largest layer needs beside."""
    grams = 6 * WIDTH**2 + INNER**2
    largest = 3 * INNER**2 + 10 * WIDTH * INNER / 2
    return 8 * (grams + largest) / 1e6


def one(blocks, max_memory):
    """Print what a run adds, as JSON."""
    model = decoder(blocks)
    ids = torch.randint(1000, (SEQUENCES, TOKENS), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model(input_ids=ids[:16])
    before = resident_memory() / 1e6
    found = chita.prune(
        model,
        {"input_ids": ids, "labels": ids},
        sparsity=0.7,
        solver="alps",
        layerwise=True,
        fisher=chita.Fisher(samples=SEQUENCES),
        ignore="lm_head",
        memory=chita.Memory(max_memory=max_memory),
        inplace=True,
    )
    print(
        json.dumps({
            "blocks": blocks,
            "weights": found.record.prunable,
            "max_memory": max_memory,
            "added_mb": peak_rss_mb() - before,
            "seconds": found.seconds,
        })
    )


def main():
    """Measure each in a process of its own, print, write."""
    results = []
    for blocks in (2, 4, 8):
        for max_memory in (0, 1000):
            command = [sys.executable, __file__, str(blocks), str(max_memory)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            results.append(json.loads(done.stdout.splitlines()[-1]))
            print(results[-1], flush=True)
    content = {
        "about": __doc__,
        "environment": versions(),
        "activations_mb": SEQUENCES * TOKENS * WIDTH * 4 / 1e6,
        "needed_mb": needed(),
        "results": results,
    }
    (RESULTS / "layer_memory.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    one(int(sys.argv[1]), float(sys.argv[2])) if len(sys.argv) > 1 else main()
