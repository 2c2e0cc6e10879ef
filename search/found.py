"""What a search knows, stage after stage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eqnet.search.predictor import CQAP, Agreement
from eqnet.search.store import Measurement

Floats = np.ndarray[Any, np.dtype[np.float64]]
Key = tuple[int, ...]


@dataclass
class Found:
    """Filled in by the stages of a search; subnets are keyed by their genes in the supernet's whole space.

    Attributes:
        predictor: the last one fitted.
        agreement, baseline: of the predictor and of the linear model with the held-out measurements.
        held_out: predicted and measured logarithms of the divergence of those.
        measured: on the samples of the validation data that the search uses, in the order of measuring.
        validated: on the whole validation data.
        convergence: for each round, the best predicted value after each generation.
        optima: for each round, the prediction of the additive model's exact optimum.
        front: the Pareto front: keys and predicted values, cheapest first.
        winner: what the search recommends.
    """

    predictor: CQAP
    agreement: Agreement
    baseline: Agreement
    held_out: tuple[Floats, Floats]
    measured: dict[Key, Measurement]
    validated: dict[Key, Measurement] = field(default_factory=dict)
    convergence: list[Floats] = field(default_factory=list)
    optima: list[float] = field(default_factory=list)
    front: list[tuple[Key, float]] = field(default_factory=list)
    winner: Key = ()
