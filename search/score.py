"""What people judge a model by, beside the divergence that a search minimises."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from eqnet.search.store import Measurement


@dataclass(frozen=True)
class Score:
    """One figure of merit.

    Attributes:
        name: its key in ``result.json``.
        of: the score that a measurement holds.
        rises: whether it rises with the divergence, as an error does.
    """

    name: str
    of: Callable[[Measurement], float]
    rises: bool


ACCURACY = Score("accuracy", lambda measured: measured.accuracy, rises=False)
PERPLEXITY = Score("perplexity", lambda measured: math.exp(measured.loss), rises=True)

SCORES: Mapping[str, Score] = MappingProxyType({score.name: score for score in (ACCURACY, PERPLEXITY)})
"""Every score, by its key in ``result.json``."""
