"""A tokenizer as llama.cpp reads it: tokens, what each of them is, merges and special tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from eqnet.errors import ModelError

Fields = dict[str, Any]

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""What a token is, as llama.cpp numbers it."""

UNNAMED = "default"
"""How llama.cpp cuts text into words if a file does not say how."""

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"

_CUTS: Mapping[tuple[object, ...], str] = {
    ("words",): "gpt-2",
    ("digits", "words"): "smollm",
    (_CONTRACTIONS + r"\p{N}{1,3}" + _REST, "merged"): "llama-bpe",
    (_CONTRACTIONS + r"\p{N}{1,3}" + _REST,): "chatglm-bpe",
    (_CONTRACTIONS + r"\p{N}" + _REST,): "qwen2",
}
"""llama.cpp's names for the steps that cut text into words; "merged": whole words that are tokens stay whole."""


def vocabulary_fields(tokenizer: Any, size: int) -> Fields:
    """The metadata of a tokenizer, by full name.

    Args:
        tokenizer: of transformers, a fast one.
        size: tokens of the model; those that the tokenizer lacks are stored as unused.

    Raises:
        ModelError: llama.cpp has no such tokenizer.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ModelError("the tokenizer has no tokenizer.json; save a fast tokenizer of transformers beside the model")
    data = json.loads(backend.to_str())
    model = data["model"]
    if model["type"] != "BPE":
        raise ModelError(f"a tokenizer of type {model['type']} has no GGUF form here; those of type BPE have")
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    tokens, types = _tokens(data, size)
    form = _sentence_pieces(data, tokens, merges) if model.get("byte_fallback") else _byte_level(data, merges)
    template = getattr(tokenizer, "chat_template", None)
    return {
        **form,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        **_special(tokenizer),
        **({"tokenizer.chat_template": template} if isinstance(template, str) else {}),
    }


def without_vocabulary() -> Fields:
    """For models that take tokens as numbers."""
    return {"tokenizer.ggml.model": "no_vocab"}


def _tokens(data: Mapping[str, Any], size: int) -> tuple[list[str], list[int]]:
    """Tokens by number, and what they are."""
    texts, types = [f"[UNUSED{i}]" for i in range(size)], [UNUSED] * size
    fallback = data["model"].get("byte_fallback", False)
    unknown = data["model"].get("unk_token")
    for token, i in data["model"]["vocab"].items():
        if i < size:
            texts[i] = token
            is_byte = fallback and len(token) == 6 and token.startswith("<0x") and token.endswith(">")
            types[i] = BYTE if is_byte else UNKNOWN if fallback and token == unknown else NORMAL
    for added in data.get("added_tokens", []):
        i = added["id"]
        if i < size and types[i] not in (UNKNOWN, BYTE):
            texts[i], types[i] = added["content"], CONTROL if added["special"] else USER_DEFINED
    return texts, types


def _byte_level(data: Mapping[str, Any], merges: Sequence[str]) -> Fields:
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": cut_of(data),
        "tokenizer.ggml.merges": list(merges),
        "tokenizer.ggml.add_space_prefix": _adds_space(data),
    }


def _sentence_pieces(data: Mapping[str, Any], tokens: Sequence[str], merges: Sequence[str]) -> Fields:
    """Tokens whose score is that of the merge which makes them: llama.cpp merges the highest first."""
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault(pair.replace(" ", ""), rank)
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.pre": UNNAMED,
        "tokenizer.ggml.scores": [-float(ranks.get(token, len(ranks))) for token in tokens],
        "tokenizer.ggml.add_space_prefix": _adds_space(data),
    }


def cut_of(data: Mapping[str, Any]) -> str:
    """llama.cpp's name for how a tokenizer (the content of tokenizer.json) cuts text into words."""
    steps: list[object] = []
    for step in _sequence(data.get("pre_tokenizer"), "pretokenizers"):
        if step["type"] == "Split" and "Regex" in step["pattern"] and step["behavior"] == "Isolated":
            steps.append(step["pattern"]["Regex"])
        elif step["type"] == "Digits" and step["individual_digits"]:
            steps.append("digits")
        elif step["type"] == "ByteLevel":
            steps += ["words"] if step.get("use_regex", True) else []
        else:
            steps.append(step["type"])
    if data["model"].get("ignore_merges"):
        steps.append("merged")
    return _CUTS.get(tuple(steps), UNNAMED)


def _adds_space(data: Mapping[str, Any]) -> bool:
    """Whether a text is taken as if a space were in front of it."""
    cuts = _sequence(data.get("pre_tokenizer"), "pretokenizers")
    normalizers = _sequence(data.get("normalizer"), "normalizers")
    return any(
        [
            *(step.get("add_prefix_space") is True for step in cuts),
            *(step.get("prepend_scheme") in ("always", "first") for step in cuts),
            *(step["type"] == "Prepend" for step in normalizers),
        ]
    )


def _sequence(step: Mapping[str, Any] | None, key: str) -> Sequence[Mapping[str, Any]]:
    """The steps of a step."""
    if step is None:
        return ()
    steps: Sequence[Mapping[str, Any]] = step[key] if step["type"] == "Sequence" else (step,)
    return steps


_NAMES = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding", "sep": "seperator", "mask": "mask"}
"""Special tokens of transformers as llama.cpp calls them; the spelling is its own."""


def _special(tokenizer: Any) -> Fields:
    ids = {name: getattr(tokenizer, f"{short}_token_id", None) for short, name in _NAMES.items()}
    fields: Fields = {f"tokenizer.ggml.{name}_token_id": i for name, i in ids.items() if isinstance(i, int)}
    encoded = list(tokenizer("a")["input_ids"])
    for where, name in ((0, "bos"), (-1, "eos")):
        fields[f"tokenizer.ggml.add_{name}_token"] = bool(encoded) and encoded[where] == ids[name]
    return fields
