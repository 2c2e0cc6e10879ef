"""Small random language models, packed, and a tokenizer of bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import eqnet
from eqnet.lm.source import open_source
from tests.eqnet.lm.models import CONFIGS, random_ids, random_model

BYTES = 260
"""Tokens of ``byte_tokenizer``: 256 bytes, then <pad>, <s>, </s> and <turn>."""

END = 258
"""The token that ends a text."""

CHAT = (
    "{% for m in messages %}<turn>{{ m['role'] }}:{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<turn>assistant:{% endif %}"
)


def packed_model(name: str = "llama-tied", choices: str = "w=4:group32:asym a=float edge=none scale=fp16") -> Any:
    """A model of ``CONFIGS``, its layers torch's own, and the same packed."""
    with tempfile.TemporaryDirectory() as folder:
        random_model(name).save_pretrained(folder)
        model = open_source(folder).load()
    ids = {"input_ids": random_ids(2, 8)}
    supernet = eqnet.elasticize(model, eqnet.Choices.parse(choices), ids)
    supernet.calibrate([ids])
    return model, eqnet.pack(supernet, supernet.space.draw(np.random.default_rng(0)))


def byte_tokenizer(chat_template: str | None = CHAT) -> Any:
    """A token for each byte, in transformers' own form."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    vocabulary = {letter: byte for byte, letter in bytes_to_unicode().items()}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "<s>", "</s>", "<turn>"])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>")
    made.chat_template = chat_template
    return made


def save_byte_model(folder: Path, *, packed: bool = True) -> Path:
    """A folder with a byte-level model and its tokenizer, packed or in floating point."""
    import transformers

    from eqnet.randomness import seeded

    config = CONFIGS["llama-tied"]()
    config.vocab_size, config.eos_token_id, config.max_position_embeddings = BYTES, END, 128
    with seeded(0):
        model = transformers.LlamaForCausalLM(config).eval()
    if packed:
        ids = {"input_ids": random_ids(2, 8)}
        choices = eqnet.Choices.parse("w=4:group32:asym a=float edge=none scale=fp16")
        supernet = eqnet.elasticize(model, choices, ids)
        supernet.calibrate([ids])
        eqnet.pack(supernet, supernet.space.draw(np.random.default_rng(0))).save(folder)
    else:
        model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
