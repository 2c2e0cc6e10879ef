"""What a search asks about latency."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from eqnet.formats import LayerFormat
from eqnet.search.latency.table import LatencyTable
from eqnet.search.latency.timing import Timing


@dataclass(frozen=True)
class Clock:
    """Predicts and takes the time of one model's subnets.

    Attributes:
        table: predicts.
        network: takes the time of a subnet as it is deployed.
        machine: what the times are of.
    """

    table: LatencyTable
    network: Callable[[Mapping[str, LayerFormat]], Timing]
    machine: str
