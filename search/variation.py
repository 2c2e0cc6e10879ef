"""How new genes are made: random ones, mutation, crossover, and the repair of what breaks a limit.

Everything works on whole populations, int64 [P, sets], and draws from a generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from eqnet.errors import BudgetError
from eqnet.search.exact import minimize

Genes: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
Floats: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

REPAIR_STEPS = 10
"""Steps of a repair, beyond one for each set, before it falls back on a network that is known to be feasible."""
LEAST_SAVING = 1e-6
"""Weight, as a share of the limit, of a set that can save nothing: with several limits it may help all the same."""


class Variation:
    """The operators of one search.

    Args:
        sizes: number of choices of each tied set, int64 [sets].
        costs: for each limit and each set, what its choices add, int64 [choices].
        limits: the largest sum for each row of ``costs``.
        rng: the source of randomness.
        rate: probability that a gene mutates.

    Raises:
        BudgetError: no genes meet the limits.
    """

    def __init__(
        self,
        sizes: Ints,
        costs: Sequence[Sequence[Ints]],
        limits: Sequence[int],
        rng: np.random.Generator,
        rate: float,
    ) -> None:
        self.sizes = np.asarray(sizes, dtype=np.int64)
        self._rng, self._rate = rng, rate
        self._sets = np.arange(len(self.sizes))
        self._limits = np.array(limits, dtype=np.int64)
        widest = int(self.sizes.max(initial=1))
        # [limits, sets, widest]; choices that a set lacks are masked by _real wherever they could be taken.
        self._costs = np.zeros((len(costs), len(self.sizes), widest), dtype=np.int64)
        for m, cost in enumerate(costs):
            for i, table in enumerate(cost):
                self._costs[m, i, : len(table)] = table
        self._real = np.arange(widest) < self.sizes[:, None]
        self._weight = 1.0 / np.maximum(self._limits, 1).astype(np.float64)  # makes excesses comparable
        self._feasible = self._any_feasible(costs, limits)
        # [sets, widest]: choices from cheap to dear, the place of each, and what it costs above the cheapest one.
        price = (self._costs * self._weight[:, None, None]).sum(axis=0)
        price[~self._real] = np.inf
        self._order = np.argsort(price, axis=1, kind="stable")
        self._rank = np.argsort(self._order, axis=1, kind="stable")
        self._saving = price - price.min(axis=1, keepdims=True)

    def cost(self, genes: Genes) -> Ints:
        """The sums that are limited, int64 [limits, P]."""
        total: Ints = self._costs[:, self._sets, genes].sum(axis=2)
        return total

    def random(self, count: int) -> Genes:
        """Feasible genes, int64 [count, sets]: each set drawn evenly, then repaired."""
        return self.repair(self._rng.integers(0, self.sizes, (count, len(self.sizes))))

    def crossover(self, parents: Genes, count: int) -> Genes:
        """Children that take each gene from one of two parents, evenly, int64 [count, sets]."""
        first, second = self._rng.integers(0, len(parents), (2, count))
        take = self._rng.random((count, len(self.sizes))) < 0.5
        children: Genes = np.where(take, parents[first], parents[second])
        return children

    def mutate(self, parents: Genes, count: int) -> Genes:
        """Children of one parent each, int64 [count, sets], by one of three moves.

        Half redraw every gene with the probability of the search, as EQ-Net does. A quarter step one gene to the next
        cheaper or dearer choice, and a quarter exchange cost between two sets: these find what is best near a limit,
        where redrawing almost always breaks it or gives something away.
        """
        children = parents[self._rng.integers(0, len(parents), count)]
        move = self._rng.random(count)
        self._redraw(children, np.flatnonzero(move < 0.5))
        self._step(children, np.flatnonzero((move >= 0.5) & (move < 0.75)))
        self._exchange(children, np.flatnonzero(move >= 0.75))
        return children

    def repair(self, genes: Genes) -> Genes:
        """Lowers the costs of whatever breaks a limit, gene by gene, until nothing does.

        Sets are drawn in proportion to what they could save. Each takes a choice that meets all limits, or, if none
        does, one that comes closer. Several limits can block each other on the way; what is left after a few steps
        takes over, set by set, a network that is known to be feasible.

        Args:
            genes: int64 [P, sets].

        Returns:
            A copy in which every row keeps to the limits.
        """
        genes = genes.copy()
        totals = self.cost(genes)
        rows = np.flatnonzero((totals > self._limits[:, None]).any(axis=0))
        totals = totals[:, rows]
        steps = len(self.sizes) + REPAIR_STEPS
        for step in range(steps + len(self.sizes)):
            if not len(rows):
                break
            if step < steps:
                # The largest of u^(1/weight), in logarithms, is a draw in proportion to the weight.
                saving = self._saving[self._sets, genes[rows]]
                sets = (np.log(self._rng.random(saving.shape)) / np.maximum(saving, LEAST_SAVING)).argmax(axis=1)
                old = genes[rows, sets]
                new = self._cheaper(totals, sets, old)
            else:
                sets = np.full(len(rows), step - steps)
                old, new = genes[rows, sets], self._feasible[sets]
            genes[rows, sets] = new
            totals += self._costs[:, sets, new] - self._costs[:, sets, old]
            still = (totals > self._limits[:, None]).any(axis=0)
            if not still.all():
                rows, totals = rows[still], totals[:, still]
        return genes

    def _cheaper(self, totals: Ints, sets: Ints, old: Ints) -> Ints:
        """The choice that each row's set takes in a repair, int64 [P].

        Args:
            totals: of the rows, int64 [limits, P].
            sets: one for each row, int64 [P].
            old: the choices that these sets have, int64 [P].
        """
        excess = totals - self._limits[:, None]
        after = self._costs[:, sets] + (excess - self._costs[:, sets, old])[..., None]  # [limits, P, widest]
        real = self._real[sets]
        meets = (after <= 0).all(axis=0) & real
        share = (np.maximum(after, 0) * self._weight[:, None, None]).sum(axis=0)
        closer = (share < (np.maximum(excess, 0) * self._weight[:, None]).sum(axis=0)[:, None]) & real
        pool = np.where(meets.any(axis=1, keepdims=True), meets, closer)
        keys = self._rng.random(pool.shape)
        # Every other row takes the dearest choice, to give away as little as it can.
        keys[1::2] += self._rank[sets[1::2]]
        keys[~pool] = -1.0
        picked = keys.argmax(axis=1)
        return np.where(keys[np.arange(len(old)), picked] < 0, old, picked)

    def _redraw(self, genes: Genes, rows: Ints) -> None:
        shape = (len(rows), len(self.sizes))
        changed = self._rng.random(shape) < self._rate
        # One gene at least, or the child is its parent.
        changed[np.arange(len(rows)), self._rng.integers(0, len(self.sizes), len(rows))] = True
        genes[rows] = np.where(changed, self._rng.integers(0, self.sizes, shape), genes[rows])

    def _step(self, genes: Genes, rows: Ints) -> None:
        sets = self._rng.integers(0, len(self.sizes), len(rows))
        rank = self._rank[sets, genes[rows, sets]] + self._rng.choice([-1, 1], len(rows))
        genes[rows, sets] = self._order[sets, np.clip(rank, 0, self.sizes[sets] - 1)]

    def _exchange(self, genes: Genes, rows: Ints) -> None:
        """Redraws one set, and moves another one's cost by as much the other way as its choices allow."""
        if len(self.sizes) < 2:
            return self._redraw(genes, rows)
        first = self._rng.integers(0, len(self.sizes), len(rows))
        second = (first + self._rng.integers(1, len(self.sizes), len(rows))) % len(self.sizes)
        old = genes[rows, first]
        new = self._rng.integers(0, self.sizes[first])
        current = genes[rows, second]
        gained = self._costs[:, first, new] - self._costs[:, first, old]  # [limits, rows]
        tables = self._costs[:, second]  # [limits, rows, widest]
        paid = tables - tables[:, np.arange(len(rows)), current][..., None]
        imbalance = (np.abs(paid + gained[..., None]) * self._weight[:, None, None]).sum(axis=0)
        # Ties, of which there are many without limits or between formats of one width, fall at random.
        imbalance += self._rng.random(imbalance.shape) * 1e-12
        imbalance[~self._real[second]] = np.inf
        genes[rows, first] = new
        genes[rows, second] = imbalance.argmin(axis=1)
        return None

    def _any_feasible(self, costs: Sequence[Sequence[Ints]], limits: Sequence[int]) -> Genes:
        if len(limits) == 1:
            cheapest = np.array([int(np.argmin(table)) for table in costs[0]], dtype=np.int64)
            found = cheapest if int(self.cost(cheapest[None])[0, 0]) <= limits[0] else None
        else:
            optimum = minimize([np.zeros(int(size)) for size in self.sizes], costs, limits)
            found = optimum.genes if optimum is not None else None
        if found is None:
            raise BudgetError("no network of the space meets the limits; relax one of them")
        return found
