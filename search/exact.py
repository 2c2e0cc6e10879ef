"""The exact optimum of an additive model under several limits, by mixed-integer linear programming."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from eqnet.errors import EqnetError

Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

_LARGEST_COST = 1e5
"""Costs above this are scaled down to it. HiGHS meets a row within 1e-6, far less than one unit of cost below it."""
_LARGEST_LOSS = 1e4
"""The losses are scaled to this. HiGHS stops at an absolute gap of 1e-6, which is then 1e-10 of the largest loss."""
_CUTS = 24
"""Solutions beyond a limit, by less than HiGHS can tell, that are excluded one by one; then the limit is tightened."""
_ATTEMPTS = 60


@dataclass(frozen=True)
class Optimum:
    """The best genes, and what they are worth.

    Attributes:
        genes: one choice for each tied set, int64 [sets].
        value: the sum of their losses.
    """

    genes: Ints
    value: float


def minimize(
    losses: Sequence[Floats],
    costs: Sequence[Sequence[Ints]] = (),
    limits: Sequence[int] = (),
    *,
    gap: float = 0.0,
) -> Optimum | None:
    """Picks one choice for each tied set so that the sum of losses is least and each sum of costs keeps to its limit.

    One binary variable a choice, of which exactly one in each set is 1; solved by HiGHS. The solution is checked in
    integer arithmetic, for HiGHS works with tolerances. The same input gives the same output.

    Args:
        losses: for each set, the loss that each choice adds, finite, float [choices].
        costs: for each limit and each set, the cost that each choice adds, int64 [choices].
        limits: for each row of ``costs``, the largest sum.
        gap: stop at a solution whose loss is within this share of the best; 0 proves the optimum.

    Returns:
        The optimum; None if nothing meets the limits.

    Raises:
        EqnetError: HiGHS failed.
    """
    kept = [_undominated(loss, [cost[i] for cost in costs]) for i, loss in enumerate(losses)]
    # What every network pays is taken off both sides: only differences between choices are left in the rows.
    rows, room = [], []
    for cost, limit in zip(costs, limits, strict=True):
        least = [int(table.min()) for table in cost]
        row = np.concatenate([np.empty(0, np.int64)] + [t[k] - m for t, k, m in zip(cost, kept, least, strict=True)])
        unit = int(np.gcd.reduce(row)) or 1
        rows.append(row // unit)
        room.append((int(limit) - sum(least)) // unit)
    if any(r < 0 for r in room):
        return None
    loss = np.concatenate([np.empty(0)] + [t[k] - t.min() for t, k in zip(losses, kept, strict=True)])
    starts = np.cumsum([0, *map(len, kept)])
    cuts: list[Ints] = []
    for attempt in range(_ATTEMPTS):
        chosen = _solve(loss, rows, room, starts, cuts, gap)
        if chosen is None:
            return None
        over = [max(int(row[chosen].sum()) - r, 0) for row, r in zip(rows, room, strict=True)]
        if not any(over):
            genes = np.array([k[c - s] for k, c, s in zip(kept, chosen, starts[:-1], strict=True)], dtype=np.int64)
            return Optimum(genes, float(sum(table[gene] for table, gene in zip(losses, genes, strict=True))))
        cuts.append(chosen)
        if attempt >= _CUTS:
            room = [r - excess for r, excess in zip(room, over, strict=True)]
    raise EqnetError("the exact search found no network within the budget's last digits; ask for a round budget")


def _undominated(loss: Floats, costs: Sequence[Ints]) -> Ints:
    """The choices that no other choice of the set matches or beats in loss and in every cost, int64 [kept]."""
    # Each column on its own: costs that are one apart may be the same as floats.
    matches = np.all([c[:, None] <= c[None] for c in (loss, *costs)], axis=0)  # [i, j]: i is nowhere worse than j
    # Of equals, the first stays.
    earlier = np.tri(len(loss), k=-1, dtype=np.bool_).T
    dominated = (matches & (~matches.T | earlier)).any(axis=0)
    return np.flatnonzero(~dominated)


def _solve(
    loss: Floats, rows: Sequence[Ints], room: Sequence[int], starts: Ints, cuts: Sequence[Ints], gap: float
) -> Ints | None:
    """Indices of the variables that are 1, one in each set, int64 [sets]; None if HiGHS proves that there are none."""
    # SciPy's optimizers take a second to import; whoever only prices networks does without.
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    count, sets = int(starts[-1]), len(starts) - 1
    if count == sets:
        # Nothing to choose, and no variables are left for HiGHS.
        forced = np.arange(sets, dtype=np.int64)
        return None if cuts or any(int(row.sum()) > r for row, r in zip(rows, room, strict=True)) else forced
    one_of_each = csr_array((np.ones(count), (np.repeat(np.arange(sets), np.diff(starts)), np.arange(count))))
    constraints = [LinearConstraint(one_of_each, 1, 1)]
    for row, r in zip(rows, room, strict=True):
        scale = max(float(row.max()) / _LARGEST_COST, 1.0)
        # Half a unit of slack: sums are integers, and rounding inside HiGHS cannot rule out one at the limit.
        constraints.append(LinearConstraint(csr_array(row[None] / scale), -np.inf, (r + 0.5) / scale))
    for cut in cuts:
        excluded = csr_array((np.ones(sets), (np.zeros(sets, dtype=np.int64), cut)), shape=(1, count))
        constraints.append(LinearConstraint(excluded, -np.inf, sets - 1))
    with _stdout_left_alone():
        result = milp(
            loss * (_LARGEST_LOSS / (loss.max() or 1.0)),
            integrality=np.ones(count, dtype=np.int64),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": gap},
        )
    if result.status == 2:
        return None
    if result.x is None:
        raise EqnetError(f"the exact search failed: {result.message}")
    return np.array([s + int(np.argmax(result.x[s:e])) for s, e in pairwise(starts)], dtype=np.int64)


@contextmanager
def _stdout_left_alone() -> Iterator[None]:
    """Drops what C code prints to standard output.

    Some versions of HiGHS print a line of their own, however silent they are told to be
    (https://github.com/jump-dev/HiGHS.jl/issues/312), into what may be a JSON document on standard output.
    """
    if os.name != "posix":
        yield
        return
    try:
        kept = os.dup(1)
    except OSError:  # it is closed: nothing can be written into it
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    try:
        yield
    finally:
        ctypes.CDLL(None).fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
