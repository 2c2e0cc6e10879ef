"""From a prompt to tokens, one by one, on whatever runs the model."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from eqnet.errors import InputError
from eqnet.lm.sampling import Sampling, pick

Ids = Sequence[int] | NDArray[np.int64]
"""Tokens; a tensor in the memory of the CPU is taken, too."""


class Session(Protocol):
    """One text that an engine works on; it holds keys and values of what it was fed."""

    @property
    def position(self) -> int:
        """Tokens fed so far."""

    def feed(self, ids: Ids) -> NDArray[np.float32]:
        """Appends tokens.

        Args:
            ids: [T], at least one.

        Returns:
            The logits of what follows the last of them, float32 [vocabulary].

        Raises:
            InputError: there are more tokens than the session has places.
        """

    def feed_all(self, ids: Ids) -> NDArray[np.float32]:
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


def checked_context(asked: int | None, longest: int) -> int:
    """``asked``, or ``longest`` if it is None; raises InputError if the model does not reach so far."""
    if asked is not None and not 1 <= asked <= longest:
        raise InputError(f"a context of {asked} tokens was asked for; the model's positions go up to {longest}")
    return asked or longest


def checked_length(length: int, context: int) -> int:
    """``length``; raises InputError if no text may have so many tokens."""
    if not 1 <= length <= context:
        raise InputError(f"a text of {length} tokens was asked for; the context holds 1 to {context}")
    return length


def checked_ids(ids: Ids, position: int, length: int) -> NDArray[np.int64]:
    """``ids`` side by side; raises InputError unless a text of ``length`` tokens has room for them at ``position``."""
    checked = np.ascontiguousarray(ids, np.int64)
    if np.ndim(ids) != 1 or not len(checked) or position + len(checked) > length:
        raise InputError(
            f"tokens of shape {np.shape(ids)} at position {position} of {length}; expected one row "
            "of 1 to as many as there are places left"
        )
    return checked


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
    ids: Ids,
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
    prompt = [int(token) for token in ids]
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
        token = pick(running.feed(unseen), sampling, generator)
        yield token
        if token in stop or index == count - 1:
            return
        unseen = [token]
