"""Tokenizers in GGUF files: llama.cpp cuts text into the tokens that transformers does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import Regex, Tokenizer, decoders, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE, Unigram
from transformers import PreTrainedTokenizerFast

from eqnet.errors import ModelError
from eqnet.export.gguf import write_gguf
from eqnet.export.gguf.vocabulary import BYTE, CONTROL, NORMAL, UNUSED, USER_DEFINED, vocabulary_fields
from tests.export.language_models import TOKENS, packed, random_model

TEXT = "The quick brown fox, aged 2026, doesn't jump\n\n  over it; naïve “dogs” sleep…  "
CORPUS = [TEXT * 3, "the fox and the dog and the year 2025 or 2026: don't jump over the brown dogs " * 5]
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{%s}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SIZE = 400
SPECIAL = ["<unk>", "<s>", "</s>"]


def cuts(name: str) -> Any:
    bytes_alone = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return {
        "gpt-2": words,
        "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), words]),
        "qwen2": pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(WORDS.replace("{%s}", "")), "isolated"), bytes_alone]
        ),
        "chatglm-bpe": pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(WORDS.replace("%s", "1,3")), "isolated"), bytes_alone]
        ),
        "default": pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\s+"), "isolated"), bytes_alone]),
    }[name]


def byte_level(name: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = cuts(name), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=SPECIAL, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_tokens(["brown fox"])
    return wrapped(tokenizer)


def sentence_pieces() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=SIZE, special_tokens=[*SPECIAL, *bytes_])
    tokenizer.train_from_iterator([text.replace("…", "") for text in CORPUS], trainer)
    return wrapped(tokenizer)


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>", chat_template="{{ messages }}"
    )


class Source:
    """What a model came from, as far as it matters here."""

    def __init__(self, tokenizer: Any, path: Path) -> None:
        self.name, self.path, self._tokenizer = "small", path, tokenizer

    def tokenizer(self) -> Any:
        return self._tokenizer


def written(tokenizer: Any, folder: Path) -> Path:
    model = packed(random_model("Llama", vocab_size=SIZE + 8), "int4:group32")
    write_gguf(model, folder / "model.gguf", source=Source(tokenizer, folder))
    return folder / "model.gguf"


@pytest.mark.parametrize("name", ["gpt-2", "smollm", "qwen2", "chatglm-bpe", "default"])
def test_the_cut_into_words_has_llama_cpps_name(name: str) -> None:
    fields = vocabulary_fields(byte_level(name), SIZE + 8)
    assert fields["tokenizer.ggml.pre"] == name
    assert fields["tokenizer.ggml.model"] == "gpt2"


def test_tokens_have_their_numbers_and_kinds() -> None:
    tokenizer = byte_level("gpt-2")
    fields = vocabulary_fields(tokenizer, SIZE + 8)
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    assert len(tokens) == len(types) == SIZE + 8
    assert {token: i for i, token in enumerate(tokens) if types[i] != UNUSED} == tokenizer.get_vocab()
    assert types[: len(SPECIAL)] == [CONTROL] * len(SPECIAL)
    assert types[tokens.index("brown fox")] == USER_DEFINED
    assert types[tokens.index("the")] == NORMAL
    assert fields["tokenizer.ggml.bos_token_id"] == 1
    assert fields["tokenizer.ggml.add_bos_token"] is False
    assert fields["tokenizer.chat_template"] == "{{ messages }}"
    pieces = vocabulary_fields(sentence_pieces(), SIZE + 8)
    assert pieces["tokenizer.ggml.token_type"][len(SPECIAL) : len(SPECIAL) + 256] == [BYTE] * 256
    assert pieces["tokenizer.ggml.add_space_prefix"] is True


@pytest.mark.parametrize("name", ["gpt-2", "smollm", "qwen2", "chatglm-bpe", "pieces"])
def test_llama_cpp_cuts_text_as_transformers_does(name: str, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    tokenizer = sentence_pieces() if name == "pieces" else byte_level(name)
    engine = llama_cpp.Llama(str(written(tokenizer, tmp_path)), vocab_only=True, verbose=False)
    try:
        assert engine.tokenize(TEXT.encode(), add_bos=False) == tokenizer(TEXT)["input_ids"]
        assert engine.token_bos() == 1
        assert engine.token_eos() == 2
    finally:
        engine.close()


def test_a_gguf_file_hands_its_tokenizer_on(tmp_path: Path) -> None:
    first = written(byte_level("smollm"), tmp_path)
    second = tmp_path / "again.gguf"
    write_gguf(packed(random_model("Llama", vocab_size=SIZE + 8), "int4:group32"), second, source=Source(None, first))

    def fields(path: Path) -> dict[str, Any]:
        found = gguf.GGUFReader(path).fields.items()
        return {key: field.contents() for key, field in found if key.startswith("tokenizer")}

    assert len(fields(first)["tokenizer.ggml.tokens"]) == SIZE + 8
    assert fields(second) == fields(first)


def test_tokenizers_that_llama_cpp_lacks_are_refused() -> None:
    with pytest.raises(ModelError, match="tokenizer of type Unigram has no GGUF form"):
        vocabulary_fields(wrapped(Tokenizer(Unigram([("a", -1.0), ("<unk>", -2.0)], unk_id=1))), TOKENS)
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        vocabulary_fields(object(), TOKENS)
