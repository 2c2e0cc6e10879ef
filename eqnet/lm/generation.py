"""From a prompt to tokens, one by one, on whatever runs the model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from eqnet.errors import InputError
from eqnet.lm.sampling import Sampling, pick


class Session(Protocol):
    """One text that an engine works on; it holds keys and values of what it was fed."""

    @property
    def position(self) -> int:
        """Tokens fed so far."""

    def feed(self, ids: Tensor) -> Tensor:
        """Appends tokens.

        Args:
            ids: int64 [T], at least one.

        Returns:
            The logits of what follows the last of them, float32 [vocabulary].

        Raises:
            InputError: there are more tokens than the session has places.
        """

    def feed_all(self, ids: Tensor) -> Tensor:
        """The same with the logits of what follows each of them, float32 [T, vocabulary]."""


@runtime_checkable
class Engine(Protocol):
    """What runs a language model; ``str`` of it says what that is."""

    @property
    def context(self) -> int:
        """Most tokens of one text."""

    @property
    def vocabulary(self) -> int:
        """Number of tokens that it knows."""

    def session(self, length: int) -> Session:
        """A new text of at most ``length`` tokens; raises InputError if that is more than ``context``."""


def check_ids(ids: Sequence[int], vocabulary: int) -> None:
    """Raises InputError unless every id is one of the vocabulary."""
    outside = next((token for token in ids if not 0 <= token < vocabulary), None)
    if outside is not None:
        raise InputError(f"token {outside} is none of the model's {vocabulary}; ids go from 0 to {vocabulary - 1}")


def check_prompt(ids: Sequence[int], engine: Engine) -> None:
    """Raises InputError unless the engine takes ``ids`` and can add one token to them."""
    if not len(ids):
        raise InputError("the prompt is empty; give at least one token")
    check_ids(ids, engine.vocabulary)
    if len(ids) >= engine.context:
        raise InputError(
            f"the prompt has {len(ids)} tokens; with one to follow it may have {engine.context - 1}, as the context "
            f"holds {engine.context}: shorten it"
        )


def generate(
    engine: Engine,
    ids: Sequence[int] | Tensor,
    sampling: Sampling | None = None,
    stop: Collection[int] = (),
    *,
    most: int | None = None,
    session: Session | None = None,
) -> Iterator[int]:
    """The tokens that follow a prompt, until one of ``stop``, which is the last one given, or the context is full.

    Args:
        engine: what runs the model.
        ids: the prompt.
        sampling: how tokens are drawn; the likeliest if None.
        stop: tokens that end a text.
        most: of the tokens; None for as many as there is room for.
        session: that was fed the first ``session.position`` tokens of ``ids`` already, and has room for what is to
            come; a new one if None.

    Raises:
        InputError: the prompt is empty or too long, or an id is none of the vocabulary. All before the first token.
    """
    prompt = ids.tolist() if isinstance(ids, Tensor) else [int(token) for token in ids]
    check_prompt(prompt, engine)
    room = engine.context - len(prompt)
    count = room if most is None else min(most, room)
    return _tokens(engine, prompt, sampling or Sampling(), frozenset(stop), count, session)


def _tokens(
    engine: Engine, prompt: list[int], sampling: Sampling, stop: frozenset[int], count: int, session: Session | None
) -> Iterator[int]:
    if count < 1:
        return
    running = session or engine.session(len(prompt) + count - 1)  # the last token is given, and not fed
    generator = sampling.generator()
    unseen = prompt[running.position :]
    for index in range(count):
        token = pick(running.feed(torch.tensor(unseen)), sampling, generator)
        yield token
        if token in stop or index == count - 1:
            return
        unseen = [token]
