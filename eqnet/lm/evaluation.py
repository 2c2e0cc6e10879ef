"""What a language model is worth on text: its perplexity, and how far it is from another model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eqnet.errors import InputError, ModelError
from eqnet.lm.generation import Engine, check_ids

ROWS = 128
"""Tokens whose distributions over the vocabulary are held in float64 at a time."""

Report = Callable[[str, int, int], None]
"""Told (stage, done, total) as work goes on."""

Logits = Callable[[Tensor], Any]
"""From ids [1, T] to logits [1, T, vocabulary], or to an output of transformers that has them."""


@dataclass(frozen=True)
class Perplexity:
    """How surprised a model is by a text.

    Attributes:
        nats: mean negative log-likelihood of a token.
        tokens: that were counted.
        bytes: of the text that these tokens stand for; None if that is not known.
    """

    nats: float
    tokens: int
    bytes: int | None = None

    @property
    def value(self) -> float:
        """The perplexity, exp(nats)."""
        return math.exp(self.nats)

    @property
    def bits_per_byte(self) -> float | None:
        """What one byte of the text would take if it were coded with the model; comparable between tokenizers."""
        return self.nats * self.tokens / math.log(2) / self.bytes if self.bytes else None


@dataclass(frozen=True)
class Divergence:
    """How far a model's distributions of the next token are from those of a reference.

    Attributes:
        nats: mean of KL(reference ‖ model).
        agreement: share of places where both find the same token the likeliest.
        places: that were compared.
    """

    nats: float
    agreement: float
    places: int


def perplexity(
    model: Engine | Logits, windows: Tensor, *, nbytes: int | None = None, report: Report | None = None
) -> Perplexity:
    """The perplexity of a model on windows of text.

    Each window is a text of its own: the model sees none of what comes before it. Windows do not overlap, and every
    token but the first of its window counts, each predicted from all before it in the window, the same weight for all:
    ``exp(−1/(N(T−1)) Σ log p(x_t | x_1 … x_{t−1}))`` over N windows and t = 2 … T.

    Args:
        model: an engine, or what gives logits.
        windows: ids, int64 [N, T].
        nbytes: of the text of the tokens that count; see ``counted_bytes``.
        report: told how far it is.

    Raises:
        InputError: there are no windows, they have a single token, or an id is none of the vocabulary.
        ModelError: the model's logits are not finite.
    """
    logits_of = _logits_of(model, windows)
    total = 0.0
    for index, ids in enumerate(windows):
        logits = logits_of(ids)
        for start in range(0, len(ids) - 1, ROWS):
            rows, targets = logits[start : start + ROWS], ids[start + 1 : start + 1 + ROWS]
            total -= float(_log_softmax(rows[: len(targets)]).gather(1, targets[:, None]).sum())
        if report is not None:
            report("Measuring perplexity", index + 1, len(windows))
    count = windows.numel() - len(windows)
    return Perplexity(total / count, count, nbytes)


def divergence(
    reference: Engine | Logits, model: Engine | Logits, windows: Tensor, *, report: Report | None = None
) -> Divergence:
    """How far a model is from a reference, at every place of every window.

    Args:
        reference: the model that is taken to be right, mostly in floating point.
        model: the other one, of the same vocabulary.
        windows: ids, int64 [N, T]; as for ``perplexity``, each is a text of its own.
        report: told how far it is.

    Raises:
        InputError: as for ``perplexity``, or the vocabularies differ.
        ModelError: logits are not finite.
    """
    expected_of, found_of = _logits_of(reference, windows), _logits_of(model, windows)
    total, same = 0.0, 0
    for index, ids in enumerate(windows):
        pair = expected_of(ids), found_of(ids)
        if pair[0].shape != pair[1].shape:
            sizes = " and ".join(str(logits.shape[-1]) for logits in pair)
            raise InputError(f"the models have vocabularies of {sizes} tokens; only those of one vocabulary compare")
        for expected, found in zip(*(torch.split(logits, ROWS) for logits in pair)):
            p, q = _log_softmax(expected), _log_softmax(found)
            total += float((p.exp() * (p - q)).sum())
            same += int((expected.argmax(1) == found.argmax(1)).sum())
        if report is not None:
            report("Measuring divergence", index + 1, len(windows))
    return Divergence(total / windows.numel(), same / windows.numel(), windows.numel())


def counted_bytes(tokenizer: Any, windows: Tensor) -> int:
    """Bytes of UTF-8 of the tokens that ``perplexity`` counts: all of a window but its first.

    A character that the border of a window cuts counts as the replacement character that it is decoded to.
    """
    texts = (
        tokenizer.decode(ids[1:], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        for ids in windows.tolist()
    )
    return sum(len(text.encode("utf-8")) for text in texts)


def _log_softmax(logits: Tensor) -> Tensor:
    """[T, vocabulary] in float64; the sum of the exponentials of 100,000 float32 would lose what 8 bits change."""
    result = logits.double().log_softmax(1)
    if bool(result.isnan().any()):
        raise ModelError("the model's logits hold inf or NaN; check its weights")
    return result


def _logits_of(model: Engine | Logits, windows: Tensor) -> Callable[[Tensor], Tensor]:
    """What gives the logits [T, vocabulary] of ids [T]."""
    if windows.ndim != 2 or not len(windows) or windows.shape[1] < 2:
        raise InputError(f"windows of shape {tuple(windows.shape)}; expected some, each of two tokens or more")
    if isinstance(model, Engine):
        engine = model
        check_ids(windows.flatten().tolist(), engine.vocabulary)
        return lambda ids: torch.from_numpy(engine.session(len(ids)).feed_all(ids.numpy()))
    call = model

    @torch.inference_mode()
    def called(ids: Tensor) -> Tensor:
        output: Any = call(ids[None])
        logits: Tensor = output[0] if isinstance(output, Tensor) else output.logits[0]
        return logits.float()

    return called
