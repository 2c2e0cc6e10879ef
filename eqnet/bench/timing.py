"""Times of several calls, taken in turn, so that a disturbance meets all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

LEAST = 3
"""Rounds, however long they take."""

MOST = 100_000
"""Rounds, however short they are."""

Call = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """Seconds of every call, in the order in which they were taken."""

    seconds: tuple[float, ...]

    def percentile(self, share: float) -> float:
        """What ``share`` percent of the calls do not exceed, by linear interpolation."""
        return float(np.percentile(self.seconds, share))

    @property
    def median(self) -> float:
        """The middle one."""
        return self.percentile(50)

    @property
    def best(self) -> float:
        """The shortest one."""
        return min(self.seconds)

    @property
    def mean(self) -> float:
        """Of all calls."""
        return sum(self.seconds) / len(self.seconds)


def in_turn(calls: Sequence[Call], seconds: float, block: float = 0.0) -> list[Times]:
    """Calls A, B, A, B, ... for about ``seconds``, after one round that warms up.

    Args:
        calls: what to time.
        seconds: for all rounds; there are at least ``LEAST`` and at most ``MOST``.
        block: seconds for which a call is repeated before it is the next one's turn; each call is timed by itself.
    """
    for call in calls:
        call()
    taken: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    for number in range(MOST):
        if number >= LEAST and time.perf_counter() >= end:
            break
        for call, times in zip(calls, taken, strict=True):
            _repeat(call, times, block)
    return [Times(tuple(times)) for times in taken]


def _repeat(call: Call, times: list[float], block: float) -> None:
    total = 0.0
    while True:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        total += times[-1]
        if total >= block:
            return
