"""How a search is made."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eqnet.errors import InputError


@dataclass(frozen=True)
class Settings:
    """How a search is made.

    Attributes:
        samples: subnets measured before the first prediction.
        held_out: of them, how many the predictor's figures are taken on; it then learns from all.
        validation: samples of a task's validation data that each measurement uses.
        rounds: of searching and measuring, at the most.
        verified: subnets measured in each round.
        doubt: networks of one format throughout are measured as well, but for those whose prediction is worse than that
            of the best proposal by more than so many times the predictor's root mean squared error.
        finalists: subnets compared on the whole validation data at the end.
        pareto: points of the Pareto front that are measured; 0 leaves them predicted.
        uniform: whether the networks with one width throughout are measured as well, on all validation and test data,
            to be shown beside the winner.
        seed: of everything that is drawn.
    """

    samples: int = 300
    held_out: int = 100
    validation: int = 512
    rounds: int = 4
    verified: int = 8
    doubt: float = math.inf
    finalists: int = 4
    pareto: int = 0
    uniform: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < 20:
            raise InputError(f"{self.samples} samples are too few to learn from; measure at least 20 subnets")
