"""Times of several calls, taken in one run so that a disturbance meets all of them alike."""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

SETTLE = 0.003
"""Seconds before a block in which the threads of the call before stop waiting for work, as OpenMP's do for a while."""

PATIENCE = 0.06
"""Seconds to wait at most for other processes to pause."""

FEW_CLEAN = 3
"""With fewer undisturbed blocks than this the best block stands for the median."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one call.

    Attributes:
        median: of the undisturbed blocks, during which no other process wanted a processor; of all blocks the best if
            those are fewer than FEW_CLEAN.
        best: of all blocks.
        clean: how many blocks were undisturbed.
        rounds: how many blocks there were.
    """

    median: float
    best: float
    clean: int
    rounds: int

    @property
    def sure(self) -> bool:
        """Whether enough blocks were undisturbed."""
        return self.clean >= FEW_CLEAN


def in_shuffled_rounds(calls: Sequence[Callable[[], object]], rounds: int, block: float, seed: int = 0) -> list[Timing]:
    """Times every call in every round, each round in another order.

    Args:
        calls: what to time.
        rounds: blocks of each call.
        block: seconds that a block lasts at least, where one call is shorter.
        seed: of the order.
    """
    repeats = [max(1, round(block / _once(call))) for call in calls]
    blocks: list[list[tuple[float, bool]]] = [[] for _ in calls]
    order, rng = list(range(len(calls))), random.Random(seed)
    for _ in range(rounds):
        rng.shuffle(order)
        for i in order:
            quiet = _settle()
            calls[i]()
            interrupted, start = _interruptions(), time.perf_counter()
            for _ in range(repeats[i]):
                calls[i]()
            taken = (time.perf_counter() - start) / repeats[i]
            blocks[i].append((taken, quiet and _interruptions() == interrupted))
    return [_summary(of) for of in blocks]


def _summary(blocks: list[tuple[float, bool]]) -> Timing:
    every = [taken for taken, _ in blocks]
    clean = [taken for taken, undisturbed in blocks if undisturbed]
    median = statistics.median(clean) if len(clean) >= FEW_CLEAN else min(every)
    return Timing(median, min(every), len(clean), len(every))


def _once(call: Callable[[], object]) -> float:
    """Seconds of the faster of two calls after one that warms up."""
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return max(min(taken[1:]), 1e-7)


def _settle() -> bool:
    """Waits until this process is the only one that wants a processor; says whether it came to that."""
    time.sleep(SETTLE)
    load, end = Path("/proc/loadavg"), time.perf_counter() + PATIENCE
    if not load.exists():
        return True
    while int(load.read_text().split()[3].split("/")[0]) > 1:
        if time.perf_counter() > end:
            return False
        time.sleep(0.001)
    return True


def _interruptions() -> int:
    """How often another process took a processor from this one."""
    if sys.platform == "win32":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
