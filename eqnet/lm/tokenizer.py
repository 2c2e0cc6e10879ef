"""The tokenizer of a model's folder by the library tokenizers, with the words of its chat template; no transformers.

It is asked as transformers' tokenizers are, and answers the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eqnet.errors import InputError, MissingPackageError
from eqnet.lm.chat_template import rendered

FILE = "tokenizer.json"
_CONFIG, _LEGACY, _TEMPLATE = "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"
_DEFAULT = "default"
"""The one of several templates that is meant."""


class Encoded(dict[str, list[int]]):
    """What a text became: ``encoded.input_ids``, or ``encoded["input_ids"]``."""

    @property
    def input_ids(self) -> list[int]:
        """Ids of the tokens."""
        return self["input_ids"]


class Tokenizer:
    """The tokenizer of a folder with ``tokenizer.json``.

    Args:
        folder: of the model.

    Attributes:
        chat_template: None if it has none.
        special: names of special tokens, such as ``bos_token``, and the tokens.

    Raises:
        InputError: a file cannot be read.
        MissingPackageError: tokenizers is not installed.
    """

    def __init__(self, folder: Path) -> None:
        try:
            import tokenizers
        except ImportError as e:
            raise MissingPackageError(f"{folder}: tokenizers is needed ({e}); pip install 'eqnet[hf]'") from e
        config = _read(folder / _CONFIG)
        if "added_tokens_decoder" not in config:
            config |= _read(folder / _LEGACY)
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / FILE))
            self.special = dict(_special(config))
            self.chat_template = _template(folder, config)
            self._tokenizer.no_truncation()
            self._tokenizer.no_padding()
            self._tokenizer.encode_special_tokens = bool(config.get("split_special_tokens"))
            _add(self._tokenizer, config, self.special)
        except Exception as e:  # the library raises Exception itself
            raise InputError(f"{folder}: its tokenizer cannot be read ({type(e).__name__}: {e}); copy it anew") from e

    def __call__(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> Encoded:
        """Ids of a text, with what the tokenizer puts before and after one, unless that is not wanted."""
        return Encoded(input_ids=self._tokenizer.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(
        self, ids: Sequence[int], skip_special_tokens: bool = False, clean_up_tokenization_spaces: bool = False
    ) -> str:
        """The text of tokens; no space is cleaned up."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=skip_special_tokens)
        return text

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, str]], tokenize: bool = False, add_generation_prompt: bool = False
    ) -> str:
        """The text of a conversation; raises what jinja2 raises, ImportError if that is not there."""
        if self.chat_template is None or tokenize:
            raise InputError("a chat template, which this model may not have, gives text; its ids are to be asked for")
        return rendered(self.chat_template, messages, self.special, add_generation_prompt=add_generation_prompt)


def _read(path: Path) -> dict[str, Any]:
    """The object in a JSON file, which may be missing."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise InputError(f"{path}: cannot be read ({e}); copy it anew") from e
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no JSON object; copy it anew")
    return found


def _special(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Special tokens with a name."""
    extra = config.get("extra_special_tokens")
    for name, value in {**config, **(extra if isinstance(extra, dict) else {})}.items():
        token = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(token, str):
            yield name, token


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """The chat template, in a file of its own or among the settings."""
    path = folder / _TEMPLATE
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = config.get("chat_template")
    if isinstance(found, list):
        found = {entry["name"]: entry["template"] for entry in found}.get(_DEFAULT)
    return found if isinstance(found, str) else None


def _add(tokenizer: Any, config: Mapping[str, Any], special: Mapping[str, str]) -> None:
    """Adds the tokens that are in the settings alone."""
    from tokenizers import AddedToken

    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    wanted: dict[str, Any] = {}
    for _, fields in sorted((config.get("added_tokens_decoder") or {}).items(), key=lambda item: int(item[0])):
        wanted[fields["content"]] = AddedToken(**{name: fields[name] for name in _FIELDS if name in fields})
        wanted[fields["content"]].special |= fields["content"] in special.values()
    more = config.get("extra_special_tokens") or config.get("additional_special_tokens") or ()
    listed = more if isinstance(more, list) else []
    for entry in [*special.values(), *listed]:
        token = entry["content"] if isinstance(entry, dict) else entry
        wanted.setdefault(token, AddedToken(token, special=True, normalized=False))
    tokenizer.add_tokens([token for content, token in wanted.items() if content not in known])


_FIELDS = ("content", "single_word", "lstrip", "rstrip", "normalized", "special")
"""Of an added token."""
