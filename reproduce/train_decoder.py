"""Train a small decoder on WikiText-2's valid.txt, for tables of perplexity on test.txt.

Usage: CHITA_DATA=... python reproduce/train_decoder.py FOLDER [minutes]
A Llama-shaped network (4 blocks of width 256, grouped queries, 4.2 million weights) and a byte-pair
tokenizer of 4,000 tokens, from nothing, in at most 20 minutes on two cores. A tenth of the text,
the last, is held out; the weights that do best on it are written, with the tokenizer, as any
`from_pretrained` takes them. Neither is kept in this project.
"""

import copy
import math
import os
import sys
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

LENGTH, BATCH, VOCABULARY = 128, 16, 4000
RATE, WARM_UP, SEED = 2e-3, 100, 0


def tokenizer_of(text):
    """A byte-pair tokenizer of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<end>", pad_token="<end>", bos_token="<end>"
    )


def decoder():
    """The network, with random weights."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=688,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
        attention_dropout=0.1,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    torch.manual_seed(SEED)
    return LlamaForCausalLM(config)


def loss_on(model, ids):
    """The mean loss on sequences one after another."""
    model.eval()
    with torch.no_grad():
        losses = [model(input_ids=batch, labels=batch).loss for batch in ids.split(BATCH)]
    model.train()
    return float(torch.stack(losses).mean())


def train(model, ids, validation, minutes):
    """Train until time is up or the loss held out has risen for long; keep the best weights."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.3)
    generator = torch.Generator().manual_seed(SEED)
    began, step, best, kept = time.monotonic(), 0, math.inf, model.state_dict()
    while True:
        spent = (time.monotonic() - began) / (60 * minutes)
        if spent >= 1:
            break
        starts = torch.randint(len(ids) - LENGTH, (BATCH,), generator=generator)
        batch = torch.stack([ids[a : a + LENGTH] for a in starts.tolist()])
        scale = min(1.0, (step + 1) / WARM_UP) * 0.5 * (1 + math.cos(math.pi * spent))
        for group in optimizer.param_groups:
            group["lr"] = RATE * scale
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            held = loss_on(model, validation)
            print(f"{spent:4.0%}, step {step}: {float(loss):.3f}, held out {held:.3f}", flush=True)
            if held < best:
                best, kept = held, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return best


def main():
    """Train and write."""
    folder, minutes = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 18.0
    text = (Path(os.environ["CHITA_DATA"]) / "wikitext-2" / "valid.txt").read_text()
    tokenizer = tokenizer_of(text)
    ids = torch.tensor(tokenizer(text, verbose=False)["input_ids"])
    cut = len(ids) * 9 // 10
    validation = ids[cut:][: (len(ids) - cut) // LENGTH * LENGTH].view(-1, LENGTH)
    model = decoder()
    best = train(model, ids[:cut], validation, minutes)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    print(f"perplexity held out: {math.exp(best):.1f}; written: {folder}")


if __name__ == "__main__":
    main()
