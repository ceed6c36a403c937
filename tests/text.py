"""A tiny network with a tokenizer of its own, as Hugging Face has them, and text for it."""

WORDS = (
    *("the", "cat", "sat", "on", "a", "mat", "while", "rain", "fell"),
    *("over", "hills", "and", "nobody", "came", "to", "look", "at", "it"),
)


def tokenizer_for(kind):
    """A word tokenizer; "encoder" puts [CLS] and [SEP] around a sequence."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors  # noqa: PLC0415
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if kind == "encoder":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
        sep_token="[SEP]",
    )  # fmt: skip


def saved(kind, folder):
    """Write an encoder or a decoder with its tokenizer, as `from_pretrained` takes them."""
    import torch  # noqa: PLC0415
    from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel  # noqa: PLC0415

    size = len(WORDS) + 4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "encoder":
            config = BertConfig(
                vocab_size=size, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                intermediate_size=32, max_position_embeddings=32, initializer_range=0.3,
            )  # fmt: skip
            model = BertModel(config)
        else:
            config = GPT2Config(
                vocab_size=size, n_positions=32, n_embd=16, n_layer=2, n_head=2,
                initializer_range=0.3, bos_token_id=0, eos_token_id=0,
            )  # fmt: skip
            model = GPT2LMHeadModel(config)
    model.save_pretrained(folder)
    tokenizer_for(kind).save_pretrained(folder)
    return folder


def written(folder):
    """Write train.txt and test.txt."""
    folder.mkdir(exist_ok=True)
    lines = [" ".join(WORDS[(i * j) % len(WORDS)] for j in range(1, 12)) for i in range(1, 90)]
    (folder / "train.txt").write_text("\n".join(lines[:60]))
    (folder / "test.txt").write_text("\n".join(lines[60:]))
    return folder
