"""Tokenizers and chat templates of folders, as transformers has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from jinja2.exceptions import SecurityError
from tokenizers import Tokenizer as Plain
from tokenizers import models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from eqnet.errors import InputError
from eqnet.lm.chat_template import rendered
from eqnet.lm.text import packaged
from eqnet.lm.tokenizer import Tokenizer
from tests.eqnet.lm.packed_models import CHAT, byte_tokenizer

TEXTS = ("", "a", "Hello wörld, 漢字 🙂!", "  two\tspaces\n\nand <s> special</s> ones <turn>", "<new>and <named> ones")

MESSAGES = [
    {"role": "system", "content": "Be <b>kind</b>"},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Yes?"},
    {"role": "user", "content": "é"},
]


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer that joins bytes, with ``<s>`` before a text."""
    folder = tmp_path_factory.mktemp("words")
    plain = Plain(models.BPE(unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"]
    plain.train_from_iterator([packaged()[:50_000]], trainers.BpeTrainer(vocab_size=600, special_tokens=special))
    plain.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    plain.enable_truncation(3)
    made = PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    made.save_pretrained(folder)
    return folder


def changed(folder: Path, new: Path, **settings: Any) -> Path:
    """A copy with other settings."""
    for path in folder.iterdir():
        (new / path.name).write_bytes(path.read_bytes())
    config = json.loads((new / "tokenizer_config.json").read_text())
    (new / "tokenizer_config.json").write_text(json.dumps({**config, **settings}))
    return new


ADDED = {
    "content": "<new>", "single_word": False, "lstrip": True, "rstrip": True, "normalized": False, "special": False
}  # fmt: skip


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"add_bos_token": False, "add_eos_token": True},
        {"added_tokens_decoder": {"600": ADDED}},
        {"added_tokens_decoder": {"600": ADDED}, "pad_token": "<new>"},
        {"pad_token": "<named>"},
        {"extra_special_tokens": ["<named>", "<new>"]},
        {"extra_special_tokens": {"image_token": "<named>"}},
        {"split_special_tokens": True},
    ],
    ids=str,
)
def test_tokens_are_those_of_transformers(settings: dict[str, Any], words: Path, tmp_path: Path) -> None:
    folder = changed(words, tmp_path, **settings)
    found, expected = Tokenizer(folder), AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for text in (*TEXTS, packaged()[:3000]):
        for special in (True, False):
            ids = expected(text, add_special_tokens=special)["input_ids"]
            assert found(text, add_special_tokens=special).input_ids == ids
            assert found(text, add_special_tokens=special)["input_ids"] == ids
            for skip in (True, False):
                decoded = expected.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
                assert found.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False) == decoded
    assert found.special == expected.special_tokens_map


def _in_the_settings(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    changed(folder, folder, chat_template=CHAT)


def _one_of_several(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    several = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": CHAT}]
    changed(folder, folder, chat_template=several)


PLACES = {"file": lambda folder: None, "one": _in_the_settings, "several": _one_of_several}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_chat_templates_are_found(place: Callable[[Path], None], tmp_path: Path) -> None:
    byte_tokenizer().save_pretrained(tmp_path)
    place(tmp_path)
    assert_alike(tmp_path)


@pytest.mark.parametrize(
    "template",
    [
        "{{ bos_token }}{{ eos_token }}{{ nothing }}{{ messages | tojson }}{{ messages[0] | tojson(indent=2) }}",
        "{% for m in messages %}\n  {%- if m.role == 'system' %}\n    {% continue %}\n  {% endif %}\n{{ m.content }}\n"
        "  {% break %}\n{% endfor %}\n",
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        "{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}",
        "{{ dict(a=1) | tojson }}{% if tools is none and documents is none %}{{ add_generation_prompt }}{% endif %}",
    ],
    ids=["tokens", "loops", "namespace", "generation", "dict"],
)
def test_conversations_read_as_in_transformers(template: str, tmp_path: Path) -> None:
    byte_tokenizer(template).save_pretrained(tmp_path)
    assert_alike(tmp_path)


def assert_alike(folder: Path) -> None:
    found, expected = Tokenizer(folder), AutoTokenizer.from_pretrained(folder, local_files_only=True)
    for prompt in (True, False):
        said = expected.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=prompt)
        assert found.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=prompt) == said


def test_without_a_template_there_is_none(tmp_path: Path) -> None:
    byte_tokenizer(None).save_pretrained(tmp_path)
    assert Tokenizer(tmp_path).chat_template is None


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("{{ raise_exception('no such role') }}", TemplateError),
        ("{{ messages.append(1) }}", SecurityError),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", SecurityError),
        ("{% set ns = namespace(__init__=1) %}", SecurityError),
        ("{% set ns = namespace() %}{% set ns._a = 1 %}", SecurityError),
    ],
    ids=["refusal", "change", "class", "name", "attribute"],
)
def test_templates_stay_in_their_sandbox(template: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        rendered(template, MESSAGES, {}, add_generation_prompt=True)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "{"),
        ("tokenizer.json", '{"version": "1.0"}'),
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {}}}'),
    ],
)
def test_damaged_files_are_named(name: str, content: str, tmp_path: Path) -> None:
    byte_tokenizer().save_pretrained(tmp_path)
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=rf"{tmp_path}.*(its tokenizer cannot be read|cannot be read|no JSON object)"):
        Tokenizer(tmp_path)
