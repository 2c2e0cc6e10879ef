"""Text that appears as its tokens do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_PARTIAL = "�"
"""What tokenizers decode the beginning of a character to."""


class TextStream:
    """Turns tokens into text, one by one, and never gives out part of a character.

    The texts that it gives out, joined, are what the tokenizer makes of all tokens at once. Only the last few tokens
    are decoded again each time, since what a token stands for may depend on the one before it (a space, an accent).

    Args:
        tokenizer: of transformers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._given = 0  # tokens whose text is out
        self._anchor = 0  # the token from which on tokens are decoded

    def push(self, token: int) -> str:
        """What is to be printed now that ``token`` is there, perhaps nothing yet."""
        self._ids.append(token)
        text = self._new_text()
        if not text or text.endswith(_PARTIAL):
            return ""
        self._anchor, self._given = self._given, len(self._ids)
        return text

    def finish(self) -> str:
        """What is left when no token follows."""
        text = self._new_text()
        self._anchor = self._given = len(self._ids)
        return text

    def _new_text(self) -> str:
        before = self._decoded(self._ids[self._anchor : self._given])
        return self._decoded(self._ids[self._anchor :])[len(before) :]

    def _decoded(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


class StopTexts:
    """Ends a text before the first of some phrases; holds back what may turn out to be the start of one.

    Args:
        phrases: none of them empty.

    Attributes:
        met: whether one of them came.
    """

    def __init__(self, phrases: Sequence[str]) -> None:
        self._phrases = tuple(phrases)
        self._held = ""
        self.met = False

    def push(self, text: str) -> str:
        """What may be printed of ``text`` and of what was held back; nothing once a phrase is met."""
        if self.met:
            return ""
        self._held += text
        ends = [place for phrase in self._phrases if (place := self._held.find(phrase)) >= 0]
        if ends:
            self.met = True
            ready, self._held = self._held[: min(ends)], ""
            return ready
        keep = max((self._beginning(phrase) for phrase in self._phrases), default=0)
        split = len(self._held) - keep
        ready, self._held = self._held[:split], self._held[split:]
        return ready

    def finish(self) -> str:
        """What was held back, when nothing follows."""
        ready, self._held = self._held, ""
        return ready

    def _beginning(self, phrase: str) -> int:
        """Characters at the end of what is held that begin ``phrase``."""
        return next((size for size in range(len(phrase) - 1, 0, -1) if self._held.endswith(phrase[:size])), 0)
