"""One answer: tokens as they come, their text, why it ended and how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from eqnet.errors import InputError
from eqnet.lm.generation import Engine, Session, generate
from eqnet.lm.sampling import Sampling
from eqnet.lm.streaming import StopTexts, TextStream


class Finish(str, Enum):
    """Why an answer ended."""

    STOP = "stop"
    """The model ended the text, or a phrase to stop at came."""

    LENGTH = "length"
    """As many tokens as were asked for are there."""

    CONTEXT = "context"
    """No further token fits into the context."""

    INTERRUPTED = "interrupted"
    """Nobody asked for the rest."""


@dataclass(frozen=True)
class Asked:
    """How to answer.

    Attributes:
        sampling: how tokens are drawn.
        stop: tokens that end an answer.
        phrases: texts that end an answer, and are no part of it; they need a tokenizer.
        most: tokens; None for as many as fit into the context.
    """

    sampling: Sampling = field(default_factory=Sampling)
    stop: frozenset[int] = frozenset()
    phrases: tuple[str, ...] = ()
    most: int | None = None

    def __post_init__(self) -> None:
        if "" in self.phrases:
            raise InputError("a text to stop at is empty; give at least one character")


class Answer:
    """An answer; iterate over it once for its text, piece by piece. Ids and figures are right at any time.

    Args:
        engine: what runs the model.
        prompt: ids.
        tokenizer: of transformers; if None, the text is the ids, with spaces between them.
        asked: how to answer.
        session: see ``generate``.

    Attributes:
        prompt: as given.
        ids: the tokens so far, with the one that ended the text.
        finish: why it ended.
        first: seconds until the first token; None before there is one.
        seconds: until the last one.

    Raises:
        InputError: as ``generate``; or there are phrases to stop at, but no tokenizer.
    """

    def __init__(
        self, engine: Engine, prompt: Sequence[int], tokenizer: Any, asked: Asked, *, session: Session | None = None
    ) -> None:
        if asked.phrases and tokenizer is None:
            raise InputError("texts to stop at need a tokenizer, and the model has none; leave them out")
        self.prompt = list(prompt)
        self.ids: list[int] = []
        self.finish = Finish.INTERRUPTED
        self.first: float | None = None
        self.seconds = 0.0
        self._asked, self._tokenizer = asked, tokenizer
        self._room = engine.context - len(self.prompt)
        self._tokens = generate(engine, self.prompt, asked.sampling, asked.stop, most=asked.most, session=session)

    def __iter__(self) -> Iterator[str]:
        if self._tokenizer is None:
            for token in self._timed():
                yield f"{token}" if len(self.ids) == 1 else f" {token}"
            return
        stream, phrases = TextStream(self._tokenizer), StopTexts(self._asked.phrases)
        for token in self._timed():
            if token in self._asked.stop:  # ordinary tokens may end a text, too
                break
            yield phrases.push(stream.push(token))
            if phrases.met:
                self.finish = Finish.STOP
                return
        yield phrases.push(stream.finish()) + phrases.finish()

    @property
    def tokens_per_second(self) -> float | None:
        """Of those after the first; None if there are none."""
        if self.first is None or len(self.ids) < 2:
            return None
        return (len(self.ids) - 1) / (self.seconds - self.first)

    def _timed(self) -> Iterator[int]:
        begin = time.perf_counter()
        for token in self._tokens:
            self.ids.append(token)
            self.seconds = time.perf_counter() - begin
            self.first = self.first or self.seconds
            if token in self._asked.stop:
                self.finish = Finish.STOP
            elif len(self.ids) == self._asked.most:
                self.finish = Finish.LENGTH
            elif len(self.ids) == self._room:
                self.finish = Finish.CONTEXT
            yield token
