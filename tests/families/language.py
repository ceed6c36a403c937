"""Networks of the transformers library with tiny configurations and random weights."""

import torch

from tests.families.family import SAMPLES, Family, integers, seeded

_VOCABULARY, _LENGTH = 40, 12
_SPREAD = 0.2  # of initial weights; the usual 0.02 suits layers a hundred times wider


def _bert():
    from transformers import BertConfig, BertForSequenceClassification  # noqa: PLC0415 (optional)

    config = BertConfig(
        vocab_size=_VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=_LENGTH,
        initializer_range=_SPREAD,
        num_labels=3,
    )
    return BertForSequenceClassification(config)


def _gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel  # noqa: PLC0415 (optional)

    config = GPT2Config(
        vocab_size=_VOCABULARY,
        n_positions=_LENGTH,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=_SPREAD,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPT2LMHeadModel(config)
    model.loss_type = "ForCausalLM"  # which it falls back to as well, with a line on stderr
    return model


def _llama():
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 (optional)

    config = LlamaConfig(
        vocab_size=_VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=_LENGTH,
        initializer_range=_SPREAD,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def _sentences():
    """Sentences of 5 to 12 tokens, padded with token 0, and one of three labels each."""
    lengths = 5 + integers(_LENGTH - 4, SAMPLES, 1, seed=2)
    mask = (torch.arange(_LENGTH) < lengths).long()
    tokens = 1 + integers(_VOCABULARY - 1, SAMPLES, _LENGTH)
    labels = integers(3, SAMPLES, seed=3)
    return {"input_ids": tokens * mask, "attention_mask": mask, "labels": labels}


def _text():
    """Sequences whose next tokens are to be predicted; the network shifts the labels."""
    tokens = integers(_VOCABULARY, SAMPLES, _LENGTH)
    return {"input_ids": tokens, "labels": tokens.clone()}


FAMILIES = {
    "bert": Family(seeded(_bert), _sentences),
    "gpt2": Family(seeded(_gpt2), _text),
    "llama": Family(seeded(_llama), _text),
}
