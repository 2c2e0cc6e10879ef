"""Which token comes next: the likeliest, or one drawn from the likely ones."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from eqnet.errors import InputError, ModelError

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest token, the lowest id among equals.
        top_k: draws among as many of the likeliest tokens; 0 for all.
        top_p: draws among the fewest likeliest tokens whose probabilities add up to at least this share, 0 to 1.
        seed: of the draws.

    Raises:
        InputError: a value is out of its range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature {self.temperature}; expected 0 (the likeliest token) or a positive number")
        if self.top_k < 0:
            raise InputError(f"top-k {self.top_k}; expected the number of tokens to draw among, or 0 for all")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top-p {self.top_p}; expected a share of the probability, above 0 and up to 1")

    @property
    def greedy(self) -> bool:
        """Whether nothing is drawn."""
        return self.temperature == 0

    def generator(self) -> Random:
        """A new source of draws, at its beginning."""
        return Random(self.seed)


def probabilities(logits: Logits, sampling: Sampling) -> NDArray[np.float64]:
    """What tokens are drawn with.

    The temperature comes first, then the ``top_k`` likeliest are kept, then of their renormalized distribution the
    fewest that hold ``top_p``; among equals lower ids go first.

    Args:
        logits: [vocabulary].
        sampling: with a temperature above 0.

    Returns:
        [vocabulary], adding up to 1.
    """
    scores = logits.astype(np.float64) / sampling.temperature
    ids = np.argsort(-scores, kind="stable")[: sampling.top_k or None]
    kept = np.exp(scores[ids] - scores[ids[0]])
    kept /= kept.sum()
    # A token stays if those before it do not hold the share by themselves; the first one always does.
    before = kept.cumsum() - kept
    kept[before >= sampling.top_p] = 0
    result = np.zeros_like(scores)
    result[ids] = kept / kept.sum()
    return result


def pick(logits: Logits, sampling: Sampling, generator: Random) -> int:
    """The next token.

    Args:
        logits: [vocabulary].
        sampling: how it is drawn.
        generator: advanced by one draw, unless the choice is greedy.

    Raises:
        ModelError: a logit is NaN.
    """
    likeliest = int(logits.argmax())  # of NaN, if there is one
    if np.isnan(logits[likeliest]):
        raise ModelError("the model's logits hold NaN, so no token is likelier than another; check its weights")
    if sampling.greedy:
        return likeliest
    upto = probabilities(logits, sampling).cumsum()
    return int(upto.searchsorted(generator.random() * upto[-1], side="right"))
