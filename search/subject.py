"""What a search needs to know of a model, whatever kind of model it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from eqnet.formats import LayerFormat
from eqnet.search.noise import Noise
from eqnet.search.score import Score
from eqnet.search.store import Measurement
from eqnet.space import ElasticSpace
from eqnet.subnet import Subnet

if TYPE_CHECKING:
    from eqnet.search.problem import Problem

Formats: TypeAlias = Mapping[str, LayerFormat]
Genes: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Part: TypeAlias = Literal["validation", "test"]


@dataclass(frozen=True)
class Standing:
    """How one network is presented beside others.

    Attributes:
        score: in the subject's unit.
        divergence: from the model in floating point, in nats; None where nobody asks for it.
    """

    score: float
    divergence: float | None = None


class Subject(Protocol):
    """A model whose subnets can be measured: a supernet on its task, or a language model on text.

    Attributes:
        name: for people.
        score: what the subnets are presented by.
        space: the subnets that there are.
    """

    name: str
    score: Score

    @property
    def space(self) -> ElasticSpace: ...

    def fingerprint(self) -> str:
        """Of the model, its data and how ``quick`` measures; a store holds measurements of one fingerprint."""

    def sample(self, count: int, rng: np.random.Generator) -> Genes:
        """Distinct subnets to learn from, int64 [at most count, sets]."""

    def noise(self) -> Noise:
        """How much each choice of ``space`` distorts, known before any subnet is measured."""

    def quick(self, subnet: Formats) -> Measurement:
        """What a subnet is worth on a few samples of the validation data."""

    def full(self, subnet: Formats) -> Measurement:
        """The same on all validation data."""

    def standing(self, subnet: Formats | None, part: Part) -> Standing:
        """How a subnet is presented, or the model as it was given if None, on one part of the data."""

    def uniform(self, problem: Problem, winner: Subnet) -> Mapping[int, Subnet]:
        """The networks of one width throughout that ``winner`` is presented beside, by width."""
