"""Adapters of low rank on a pruned decoder, merged while zeros stay: `python lora_under_masks.py`.

The decoder is tiny and trained here, so that nothing is downloaded: `from_pretrained(FOLDER)` takes
the place of `decoder()`, your own loop or trainer that of `train`. Needs the extra lora.
"""

import copy

import peft
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import chita
from chita.masks.lora import merge_adapter

WORDS = 64


def sentences(count, length=32):
    """A language in which every word is followed by one of four, most often by the first."""
    follows = torch.randint(WORDS, (WORDS, 4), generator=torch.Generator().manual_seed(1))
    words = [torch.randint(WORDS, (count,))]
    for _ in range(length - 1):
        chosen = torch.multinomial(torch.tensor([0.7, 0.1, 0.1, 0.1]), count, replacement=True)
        words.append(follows[words[-1], chosen])
    return {"input_ids": torch.stack(words, 1), "labels": torch.stack(words, 1)}


def decoder():
    """Two blocks, 64 wide."""
    sizes = {"hidden_size": 64, "intermediate_size": 128, "max_position_embeddings": 32}
    config = LlamaConfig(vocab_size=WORDS, num_hidden_layers=2, num_attention_heads=4, **sizes)
    return LlamaForCausalLM(config)


def train(model, steps, rate):
    """A loop like any other; of a model with adapters only these are trained."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        model(**sentences(32)).loss.backward()
        optimizer.step()
    return model.eval()


def main():
    """Prune to 95 %, train an adapter, and merge it plainly and under the masks."""
    torch.manual_seed(0)
    dense, test = train(decoder(), steps=100, rate=5e-3), sentences(200)
    result = chita.prune(dense, sentences(64), sparsity=0.95, solver="alps", ignore="lm_head")
    result.save("pruned", force=True)

    def show(name, model):
        own = {plain(name): weight for name, weight in model.named_parameters()}
        filled = sum(int((own[n][~mask] != 0).sum()) for n, mask in result.masks.items())
        with torch.no_grad():
            perplexity = float(model(**test).loss.exp())
        print(f"{name:20}perplexity {perplexity:5.2f}, {filled:,} removed weights are not zero")

    show("dense", dense)
    show("pruned", result.model)
    lora = peft.LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = train(peft.get_peft_model(copy.deepcopy(result.model), lora), steps=60, rate=5e-3)
    show("with an adapter", model)
    show("merged plainly", copy.deepcopy(model).merge_and_unload())
    merged = merge_adapter(model, "pruned")  # the run folder holds the masks
    show("merged under masks", merged.model)
    lost = 100 * sum(merged.lost.values()) / len(merged.lost)
    print(f"of the adapter's update {lost:.0f} % fell on removed weights and is lost")
    merged.model.save_pretrained("merged")


def plain(name):
    """The name that a weight under an adapter has without it."""
    return name.replace("base_model.model.", "").replace("base_layer.", "")


if __name__ == "__main__":
    main()
