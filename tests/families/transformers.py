"""More shapes of transformers: for pruning layer by layer, which must know none of them by name."""

import torch

from tests.families.family import SAMPLES, Family, integers, seeded

_VOCABULARY, _LENGTH = 40, 12
_SMALL = {
    "vocab_size": _VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 1,
}


def _opt():
    from transformers import OPTConfig, OPTForCausalLM  # noqa: PLC0415 (optional)

    return OPTForCausalLM(
        OPTConfig(
            **_SMALL,
            ffn_dim=32,
            max_position_embeddings=_LENGTH,
            word_embed_proj_dim=16,
            init_std=0.2,
            dropout=0.0,
        )
    )


def _t5():
    from transformers import T5Config, T5ForConditionalGeneration  # noqa: PLC0415 (optional)

    config = T5Config(
        vocab_size=_VOCABULARY, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4,
        decoder_start_token_id=0, pad_token_id=0,
    )  # fmt: skip
    return T5ForConditionalGeneration(config)


def _bart():
    from transformers import BartConfig, BartForConditionalGeneration  # noqa: PLC0415 (optional)

    config = BartConfig(
        vocab_size=_VOCABULARY, d_model=16, encoder_layers=2, decoder_layers=2, init_std=0.2,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=32,
        decoder_ffn_dim=32, max_position_embeddings=_LENGTH, dropout=0.0, pad_token_id=1,
        bos_token_id=0, eos_token_id=2, decoder_start_token_id=2, forced_eos_token_id=2,
    )  # fmt: skip
    return BartForConditionalGeneration(config)


def _vit():
    from transformers import ViTConfig, ViTForImageClassification  # noqa: PLC0415 (optional)

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        image_size=8, patch_size=4, num_labels=3, initializer_range=0.2,
    )  # fmt: skip
    return ViTForImageClassification(config)


def _text():
    tokens = 2 + integers(_VOCABULARY - 2, SAMPLES, _LENGTH)
    return {"input_ids": tokens, "labels": tokens.clone()}


def _pairs():
    inputs = 3 + integers(_VOCABULARY - 3, SAMPLES, _LENGTH)
    labels = 3 + integers(_VOCABULARY - 3, SAMPLES, 7, seed=5)
    return {"input_ids": inputs, "labels": labels}


def _images():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(SAMPLES, 3, 8, 8, generator=generator)
    return {"pixel_values": pixels, "labels": integers(3, SAMPLES)}


SHAPES = {
    "opt": Family(seeded(_opt), _text),
    "t5": Family(seeded(_t5), _pairs),
    "bart": Family(seeded(_bart), _pairs),
    "vit": Family(seeded(_vit), _images),
}
