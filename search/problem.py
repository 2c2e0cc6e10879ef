"""What is to be found: the subnets that a target runs, and the budgets that bound them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from eqnet.errors import BudgetError
from eqnet.search.budget import Budget
from eqnet.search.cost import CostModel
from eqnet.search.exact import minimize
from eqnet.search.genetic import Evolution, genetic_search, pareto_search
from eqnet.search.latency.engines import check_engine
from eqnet.search.latency.table import LatencyTable
from eqnet.search.noise import Noise
from eqnet.search.predictor import AdditiveModel
from eqnet.space import ElasticSpace
from eqnet.target import Target

Genes = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]

PATIENCE, TOLERANCE = 50, 1e-3
"""A genetic search ends when so many generations gained no more than this in the logarithm of the divergence: a
thousandth, which is far below the error of any prediction."""


PRICES, SEEDS = 1000, 64
"""Of a unit of the metric that is traded for quality; and networks, each the best at one, with which a front begins."""


class Predicts(Protocol):
    """A predictor of the logarithm of the divergence, over genes of the supernet's whole space."""

    additive: AdditiveModel | None

    def predict(self, genes: Genes) -> Floats: ...


@dataclass(frozen=True)
class Problem:
    """The subnets that may be proposed.

    Its own genes index the choices that the target leaves; ``to_space`` translates them into those of the whole
    space, which measurements and the predictor use.

    Attributes:
        space: what the target runs of the supernet's space.
        costs: exact costs of its subnets.
        budgets: upper bounds on costs.
        floor: least validation accuracy, if one was asked for.
        target: None if everything may be proposed.
        table: for each tied set, the index in the whole space of each choice that is left.
    """

    space: ElasticSpace
    costs: CostModel
    budgets: tuple[Budget, ...]
    floor: Budget | None
    target: Target | None
    table: tuple[Genes, ...]

    @classmethod
    def of(
        cls,
        space: ElasticSpace,
        budgets: Sequence[Budget],
        target: Target | None = None,
        latency: LatencyTable | None = None,
    ) -> Problem:
        """Restricts ``space`` to the target and checks that some subnet meets all budgets.

        Args:
            space: the supernet's.
            budgets: that all have to be met.
            target: proposes nothing that this engine does not run.
            latency: of the networks of the space, if a budget bounds it.

        Raises:
            InputError: the target runs nothing of some layer.
            BudgetError: no subnet meets the budgets; the message has the nearest feasible value. Or a latency is
                bounded that cannot be measured.
        """
        if latency is None:
            check_engine(budgets, target)
        left = target.restrict(space) if target is not None else space
        costs = CostModel(left, latency)
        floors = [b for b in budgets if b.is_floor]
        bounds = tuple(b for b in budgets if not b.is_floor)
        costs.check_feasible(bounds)
        indices = [{choice: i for i, choice in enumerate(tied.choices)} for tied in space.sets]
        table = tuple(
            np.array([index[choice] for choice in tied.choices], dtype=np.int64)
            for index, tied in zip(indices, left.sets, strict=True)
        )
        return cls(left, costs, bounds, floors[0] if floors else None, target, table)

    def pruned(self, noise: Noise) -> Problem:
        """Without the choices that another one of the same layer matches in every cost and beats in noise.

        A choice costs what ``budgets`` bound and ``metric`` trades, and no more: where nothing bounds the width of
        activations, for example, only the widest are left.

        Args:
            noise: of the supernet's whole space.
        """
        metrics = {self.metric, *(b.metric for b in self.budgets)}
        sets, table = [], []
        for i, (tied, whole) in enumerate(zip(self.space.sets, self.table, strict=True)):
            columns = [noise.weight[i][whole], noise.activation[i][whole]]
            columns += [self.costs.tables[metric][i].astype(np.float64) for metric in sorted(metrics)]
            kept = undominated(np.stack(columns, axis=1))
            sets.append(replace(tied, choices=tuple(tied.choices[j] for j in kept)))
            table.append(whole[kept])
        space = replace(self.space, sets=tuple(sets))
        return replace(self, space=space, costs=CostModel(space, self.costs.latency), table=tuple(table))

    def with_latency(self, latency: LatencyTable) -> Problem:
        """The same with other predictions of the latency.

        Raises:
            BudgetError: by these, no subnet meets the budgets; the message has the nearest feasible value.
        """
        costs = CostModel(self.space, latency)
        costs.check_feasible(self.budgets)
        return replace(self, costs=costs)

    @property
    def metric(self) -> str:
        """The cost that trades against quality: that of the first budget, or the bytes."""
        return self.budgets[0].metric if self.budgets else "bytes"

    def to_space(self, genes: Genes) -> Genes:
        """Genes [..., sets] of this problem as those of the supernet's whole space."""
        return np.stack([table[genes[..., i]] for i, table in enumerate(self.table)], axis=-1)

    def from_space(self, genes: Genes) -> Genes | None:
        """The inverse for one subnet [sets]; None if the target does not run it."""
        own = [places.get(gene) for places, gene in zip(self._places, genes.tolist(), strict=True)]
        return None if None in own else np.array(own, dtype=np.int64)

    @cached_property
    def _places(self) -> list[dict[int, int]]:
        """For each set, where ``table`` has a choice of the whole space."""
        return [{int(gene): i for i, gene in enumerate(table)} for table in self.table]

    def meets(self, genes: Genes) -> bool:
        """Whether one subnet [sets], in genes of the whole space, runs on the target within every budget."""
        own = self.from_space(genes)
        return own is not None and all(
            self.costs.total(b.metric, own[None])[0] <= self.costs.limit(b) for b in self.budgets
        )

    def fills(self, genes: Genes) -> bool:
        """Whether one subnet [sets], in genes of the whole space, uses at least 99 % of the first budget.

        A budget of latency counts as used up: what is fast is often fast in every format.
        """
        own = self.from_space(genes)
        if own is None or not self.budgets or self.metric == "latency":
            return True
        first = self.budgets[0]
        return bool(100 * self.costs.total(first.metric, own[None])[0] >= 99 * self.costs.limit(first))

    def exact(self, predictor: Predicts) -> Genes:
        """The subnet [sets] that is best by the additive part of the predictor alone, for certain."""
        optimum = minimize(self._losses(predictor), *self._bounds())
        if optimum is None:
            raise BudgetError(f"no network meets {' and '.join(map(str, self.budgets))} together; relax one of them")
        return optimum.genes

    def search(self, predictor: Predicts, rng: np.random.Generator, seeds: Sequence[Genes], top: int) -> Evolution:
        """The genetic search for the subnets that the predictor likes best, from ``seeds`` (this problem's genes)."""
        return genetic_search(
            self.space.sizes,
            self._predict(predictor),
            *self._bounds(),
            rng,
            seeds=seeds,
            top=top,
            patience=PATIENCE,
            tolerance=TOLERANCE,
        )

    def front(self, predictor: Predicts, rng: np.random.Generator) -> list[tuple[Genes, float, int]]:
        """The Pareto front of predicted value against ``metric``: (genes, value, cost), cheapest first.

        It runs on past the budget of that metric, but keeps to the others. The search begins with what is best by the
        additive part of the predictor at each price of a unit of the metric: of many layers, chance finds nothing near.
        """
        costs, limits = self.costs.constraints([b for b in self.budgets if b.metric != self.metric])
        traded = self.costs.tables[self.metric]
        return pareto_search(
            self.space.sizes,
            self._predict(predictor),
            traded,
            rng,
            costs=costs,
            limits=limits,
            generations=100,
            seeds=self._at_prices(predictor, traded),
        )

    def _at_prices(self, predictor: Predicts, traded: Sequence[Genes]) -> list[Genes]:
        """Genes of least loss and cost together, at prices from where cost is all to where loss is, of even costs."""
        losses = self._losses(predictor)
        # At a fair price, all of one is worth all of the other.
        fair = sum(map(np.ptp, losses)) / max(sum(map(np.ptp, traded)), 1)
        prices = fair * np.geomspace(1e-6, 1e6, PRICES)
        pairs = list(zip(losses, traded, strict=True))
        genes = np.stack([np.argmin(loss[:, None] + cost[:, None] * prices, axis=0) for loss, cost in pairs], axis=1)
        totals = sum(cost[column] for cost, column in zip(traded, genes.T, strict=True))
        even = np.linspace(np.min(totals), np.max(totals), SEEDS)
        return list(genes[np.unique(np.abs(totals[:, None] - even).argmin(axis=0))])

    def _losses(self, predictor: Predicts) -> list[Floats]:
        """What the additive part of the predictor says of each choice of this problem, float64 [choices] for a set."""
        assert predictor.additive is not None, "fit the predictor first"
        return [nats[table] for nats, table in zip(predictor.additive.tables, self.table, strict=True)]

    def _predict(self, predictor: Predicts) -> Any:
        return lambda genes: predictor.predict(self.to_space(np.asarray(genes)))

    def _bounds(self) -> tuple[list[tuple[Genes, ...]], list[int]]:
        return self.costs.constraints(self.budgets)


def undominated(columns: Floats) -> Genes:
    """Indices of the rows [N, objectives] that no other row matches or beats throughout; of equals, the first."""
    kept = []
    for i, row in enumerate(columns):
        no_worse = (columns <= row).all(axis=1)
        equal = (columns == row).all(axis=1)
        if not (no_worse & ~equal).any() and not equal[:i].any():
            kept.append(i)
    return np.array(kept, dtype=np.int64)
