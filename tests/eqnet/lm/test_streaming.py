"""Text that appears token by token."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from eqnet.lm.streaming import StopTexts, TextStream
from tests.eqnet.lm.packed_models import byte_tokenizer


@pytest.mark.parametrize("text", ["plain words", "naïve café — 東京 🙂 end", "🙂🙂", ""])
def test_pieces_are_whole_characters_and_make_the_text(text: str) -> None:
    stream = TextStream(byte_tokenizer())
    pieces = [stream.push(token) for token in text.encode("utf-8")]
    assert "".join(pieces) + stream.finish() == text
    assert [piece for piece in pieces if piece] == list(text), "one token is one byte, so one character comes at a time"


def test_a_cut_character_is_told_at_the_end_alone() -> None:
    stream = TextStream(byte_tokenizer())
    assert [stream.push(token) for token in "é".encode()[:1]] == [""]
    assert stream.finish() == "�"
    assert stream.finish() == ""


def test_bytes_that_are_no_text_do_not_stop_the_rest() -> None:
    stream = TextStream(byte_tokenizer())
    assert "".join(stream.push(token) for token in b"a\xff\xffb") == "a��b"


def test_special_tokens_have_no_text() -> None:
    stream = TextStream(byte_tokenizer())
    assert [stream.push(token) for token in (97, 259, 98)] == ["a", "", "b"]


@pytest.mark.parametrize(
    ("phrases", "pieces", "expected", "met"),
    [
        (["END"], ["abc", "END", "xyz"], "abc", True),
        (["END"], ["abcE", "N", "Dx"], "abc", True),
        (["END"], ["abcE", "N", "xD"], "abcENxD", False),
        (["aab"], ["aa", "ab"], "a", True),
        (["xy", "y"], ["abxy"], "ab", True),
        (["\n\n"], ["a\n", "b", "\n"], "a\nb\n", False),
        ([], ["abc"], "abc", False),
    ],
)
def test_text_ends_before_a_phrase(phrases: Sequence[str], pieces: list[str], expected: str, met: bool) -> None:
    stop = StopTexts(phrases)
    text = "".join(stop.push(piece) for piece in pieces)
    assert (text + stop.finish(), stop.met) == (expected, met)


def test_only_what_may_begin_a_phrase_is_held_back() -> None:
    stop = StopTexts(["END"])
    assert [stop.push(piece) for piece in ("abc", "dE", "fEN", "Dg")] == ["abc", "d", "Ef", ""]
