"""Which token comes next: the likeliest, or one drawn from the likely ones."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eqnet.errors import InputError, ModelError


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

    def generator(self) -> torch.Generator:
        """A new source of draws, at its beginning."""
        return torch.Generator().manual_seed(self.seed)


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """What tokens are drawn with.

    The temperature comes first, then the ``top_k`` likeliest are kept, then of their renormalized distribution the
    fewest that hold ``top_p``; among equals lower ids go first.

    Args:
        logits: [vocabulary].
        sampling: with a temperature above 0.

    Returns:
        float64 [vocabulary], adding up to 1.
    """
    scores = logits.double() / sampling.temperature
    ranked, ids = torch.sort(scores, descending=True, stable=True)
    kept = ranked[: sampling.top_k or None].softmax(0)
    # A token stays if those before it do not hold the share by themselves; the first one always does.
    before = kept.cumsum(0) - kept
    kept = torch.where(before < sampling.top_p, kept, 0.0)
    result = torch.zeros_like(scores)
    result[ids[: len(kept)]] = kept / kept.sum()
    return result


def pick(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The next token.

    Args:
        logits: [vocabulary].
        sampling: how it is drawn.
        generator: on the CPU; advanced by one draw, unless the choice is greedy.

    Raises:
        ModelError: a logit is NaN.
    """
    logits = logits.cpu()
    likeliest = logits.argmax()  # of NaN, if there is one
    if bool(logits[likeliest].isnan()):
        raise ModelError("the model's logits hold NaN, so no token is likelier than another; check its weights")
    if sampling.greedy:
        return int(likeliest)
    return int(torch.multinomial(probabilities(logits, sampling), 1, generator=generator))
