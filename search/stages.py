"""The stages of one search: measure, predict, search, verify, until nothing better turns up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from eqnet.errors import BudgetError
from eqnet.search.budget import Budget
from eqnet.search.cost import NANOSECONDS
from eqnet.search.describe import describe
from eqnet.search.found import Found, Key
from eqnet.search.latency.clock import Clock
from eqnet.search.latency.engines import bounds_latency
from eqnet.search.latency.timing import Timing
from eqnet.search.predictor import CQAP, Agreement, LinearBaseline
from eqnet.search.problem import Problem
from eqnet.search.result import MeasuredLatency, ReportData
from eqnet.search.settings import Settings
from eqnet.search.store import Measurement, Store
from eqnet.search.subject import Subject

Genes = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]
Report = Callable[[str, int, int], None]

LEAST_DIVERGENCE = 1e-9
"""Below this, in nats, two networks are the same; keeps logarithms finite."""

CORRECTIONS = 3
"""Times that predictions of the latency are raised after all that was compared turned out slower."""


class Search:
    """One search; the methods are its stages, in order.

    Args:
        subject: whose subnets are measured.
        problem: which of them may be proposed, within which budgets.
        settings: how hard to search.
        store: keeps every measurement.
        clock: of the subject's latency, if a budget bounds it.
        report: told (stage, done, total).
    """

    def __init__(
        self, subject: Subject, problem: Problem, settings: Settings, store: Store, clock: Clock | None, report: Report
    ) -> None:
        self.subject, self.space = subject, subject.space
        self.given = self.problem = problem  # the latter loses the choices that cannot be best
        self.settings, self.store, self.clock, self.report = settings, store, clock, report
        self.measured: dict[Key, Measurement] = {}
        self.uniform: list[Key] = []
        self.seconds: dict[str, float] = {}

    def run(self) -> ReportData:
        with self._timed("measure"):
            sampled = self._sample()
        with self._timed("predict"):
            found = self._agreement(sampled)
        self._search_and_choose(found)
        with self._timed("verify"):
            self._trace_front(found)
            winner = self.space.subnet(found.winner)
            compared = self.subject.uniform(self.given, winner) if self.settings.uniform else {}
            timed, seed = self._measured_latency(found), self.settings.seed
            data = describe(self.subject, self.problem, found, compared, seed, timed)
        return replace(data, seconds=self.seconds)

    def _search_and_choose(self, found: Found) -> None:
        """Finds the winner; again with higher predictions of the latency while all finalists turn out too slow."""
        for attempt in range(CORRECTIONS + 1):
            with self._timed("search"):
                self._rounds(found)
            with self._timed("verify"):
                finalists = self._finalists(found)
                found.winner = next(filter(self._fast_enough, finalists), ())
            if found.winner:
                return
            if attempt < CORRECTIONS:
                self._raise_latency(finalists, last=attempt == CORRECTIONS - 1)
        budget = bounds_latency(self.given.budgets)
        assert budget is not None, "nothing else makes finalists fail"
        least = budget.unit.spell(Fraction(min(self._timing(key).median for key in finalists), NANOSECONDS))
        raise BudgetError(
            f"budget '{budget}' was not met: the fastest network that was found takes {least} when it is measured; ask "
            "for at least that, or if the machine was busy then, remove its latency.json and search again"
        )

    def _raise_latency(self, finalists: Sequence[Key], last: bool) -> None:
        """Raises the predictions of the finalists to what was measured; at last, all but that of the fastest network.

        The latter was measured itself, and meets the budget, or the problem would not be feasible.
        """
        table, budget = self.given.costs.latency, bounds_latency(self.given.budgets)
        if table is None or budget is None:
            raise AssertionError("only a budget of latency makes finalists fail")
        for key in finalists:
            table = table.corrected(self.space.subnet(key), self.space.layers, self._timing(key).median)
        if last:
            table = table.at_most_fastest(self.given.costs.limit(budget) + 1)
        self.given = self.given.with_latency(table)
        self.problem = self.given.pruned(self.noise)  # what was dominated need not be so any more

    def _sample(self) -> Genes:
        genes = self.subject.sample(self.settings.samples, np.random.default_rng([self.settings.seed, 1]))
        self._measure(genes, "Measuring subnets")
        return genes

    def _agreement(self, sampled: Genes) -> Found:
        """Fits to all but the held-out samples, and compares predictions with measurements on those."""
        space, seed = self.space, self.settings.seed
        self.noise = self.subject.noise()
        self.problem = self.problem.pruned(self.noise)
        split = len(sampled) - min(self.settings.held_out, len(sampled) // 3)
        divergence = self._divergences(sampled)
        measured = np.log(divergence[split:])
        predicted = CQAP(space, self.noise).fit(sampled[:split], divergence[:split], seed).predict(sampled[split:])
        linear = LinearBaseline.fit(space, sampled[:split], divergence[:split]).predict(sampled[split:])
        return Found(
            predictor=CQAP(space, self.noise),
            agreement=Agreement.between(predicted, measured),
            baseline=Agreement.between(linear, measured),
            held_out=(predicted, measured),
            measured=self.measured,
        )

    def _rounds(self, found: Found) -> None:
        """Searches and measures until a round finds nothing better."""
        settings = self.settings
        for number in range(settings.rounds):
            self.report("Searching", number, settings.rounds)
            self._fit(found)
            rng = np.random.default_rng([settings.seed, 2, number])
            before = self._best()
            proposals = self._propose(found, rng, before)
            if number == 0:
                uniform = self._uniform(found, float(found.predictor.predict(proposals).min()))
                self.uniform = [_key(row) for row in uniform]
                proposals = np.concatenate([uniform, proposals])
            self._measure(proposals, f"Measuring proposals {number + 1}")
            if before is not None and self._best() == before:
                break
        self.report("Searching", settings.rounds, settings.rounds)

    def _fit(self, found: Found) -> None:
        genes = np.array(list(self.measured))
        found.predictor = CQAP(self.space, self.noise).fit(genes, self._divergences(genes), self.settings.seed)

    def _propose(self, found: Found, rng: np.random.Generator, best: Key | None) -> Genes:
        """What to measure next: the subnets that the predictor likes best, in genes of the whole space [N, sets]."""
        problem, count = self.problem, self.settings.verified
        if problem.floor is not None:
            # The floor may lie anywhere on the front, so the predictor is refined all along it.
            front = problem.front(found.predictor, rng)
            return problem.to_space(np.stack([front[i][0] for i in _spread(len(front), count)]))
        optimum = problem.exact(found.predictor)
        seeds = [optimum]
        if best is not None and (own := problem.from_space(np.array(best))) is not None:
            seeds.append(own)
        evolution = problem.search(found.predictor, rng, seeds, count)
        found.convergence.append(evolution.history)
        found.optima.append(float(found.predictor.predict(problem.to_space(optimum[None]))[0]))
        return problem.to_space(np.stack([optimum, *evolution.top]))

    def _uniform(self, found: Found, best: float) -> Genes:
        """The networks of one format throughout that the predictor likes best within the budgets [N, sets].

        They are what a user would try by hand, and must not turn out better than what is found. Those that no doubt
        are worse than the best proposal, whose prediction is given, are left out.
        """
        space = self.given.space
        alike = [space.genes(space.nearest(c)) for c in dict.fromkeys(c for tied in space.sets for c in tied.choices)]
        genes = self.given.to_space(np.unique(alike, axis=0))
        genes = genes[[self.given.meets(row) for row in genes]]
        values = found.predictor.predict(genes)
        order = np.argsort(values, kind="stable")[: max(1, self.settings.verified // 2)]
        return genes[order[values[order] <= best + self.settings.doubt * found.agreement.rmse]]

    def _finalists(self, found: Found) -> list[Key]:
        """The best few, and the best uniform network, compared on the whole validation data, best first."""
        if self.problem.floor is not None:
            return [self._smallest(found, self.problem.floor)]
        eligible = sorted(self._eligible(), key=lambda key: self.measured[key].divergence)
        uniform = [key for key in eligible if key in self.uniform]
        finalists = list(dict.fromkeys([*eligible[: self.settings.finalists], *uniform[:1]]))
        return sorted(finalists, key=lambda key: self._validate(found, key).divergence)

    def _fast_enough(self, key: Key) -> bool:
        """Whether a network, as it is deployed, keeps to the budget of latency, if there is one, within its noise."""
        budget = bounds_latency(self.given.budgets)
        if budget is None:
            return True
        timing = self._timing(key)
        return timing.median <= self.given.costs.limit(budget) + timing.noise

    def _timing(self, key: Key) -> Timing:
        assert self.clock is not None, "a budget bounds the latency"
        return self.clock.network(self.space.subnet(key))

    def _predicted(self, key: Key) -> int:
        """Nanoseconds of a network that the budgets allow."""
        own = self.given.from_space(np.array(key))
        assert own is not None, "the target runs it"
        return int(self.given.costs.total("latency", own[None])[0])

    def _measured_latency(self, found: Found) -> MeasuredLatency | None:
        if self.clock is None:
            return None
        timing = self._timing(found.winner)
        return MeasuredLatency(
            predicted=self._predicted(found.winner) / NANOSECONDS,
            measured=timing.median / NANOSECONDS,
            low=timing.low / NANOSECONDS,
            high=timing.high / NANOSECONDS,
            machine=self.clock.machine,
        )

    def _smallest(self, found: Found, floor: Budget) -> Key:
        """The cheapest subnet of the front whose accuracy, on the whole validation data, reaches the floor."""
        self._fit(found)
        rng = np.random.default_rng([self.settings.seed, 3])
        traced = [_key(self.problem.to_space(genes)) for genes, _, _ in self.problem.front(found.predictor, rng)]
        # The front runs on past the budget that it trades.
        front = [key for key in traced if self.given.meets(np.array(key))]
        front = front or [_key(self.problem.to_space(self.problem.exact(found.predictor)))]
        low, high = 0, len(front) - 1
        best = self._validate(found, front[high])
        if not floor.met_by(best.accuracy):
            raise BudgetError(
                f"budget {floor}: the best network within the other budgets reaches {100 * best.accuracy:.2f} % on "
                f"the validation data; ask for at most {100 * best.accuracy:.2f}%acc, or train for longer"
            )
        while low < high:  # accuracy rises along the front, but for noise
            middle = (low + high) // 2
            if floor.met_by(self._validate(found, front[middle]).accuracy):
                high = middle
            else:
                low = middle + 1
        return front[high]

    def _trace_front(self, found: Found) -> None:
        """The Pareto front of the last predictor; some of its points are measured if the user asked for it."""
        rng = np.random.default_rng([self.settings.seed, 4])
        front = self.problem.front(found.predictor, rng)
        found.front = [(_key(self.problem.to_space(genes)), value) for genes, value, _ in front]
        chosen = _spread(len(found.front), self.settings.pareto)
        for done, i in enumerate(chosen):
            self.report("Measuring the Pareto front", done, len(chosen))
            self._validate(found, found.front[i][0])
        if chosen:
            self.report("Measuring the Pareto front", len(chosen), len(chosen))

    def _measure(self, genes: Genes, stage: str) -> None:
        """Measures the subnets [N, sets] that are not in the store yet."""
        for done, row in enumerate(genes):
            self.report(stage, done, len(genes))
            key = _key(row)
            if key in self.measured:
                continue
            subnet = self.space.subnet(row)
            measurement = self.store.get(subnet)
            if measurement is None:
                measurement = self.subject.quick(subnet)
                self.store.add(subnet, measurement)
            self.measured[key] = measurement
        self.report(stage, len(genes), len(genes))

    def _validate(self, found: Found, key: Key) -> Measurement:
        if key not in found.validated:
            found.validated[key] = self.subject.full(self.space.subnet(key))
        return found.validated[key]

    def _eligible(self) -> list[Key]:
        """Measured subnets that meet the budgets; only those that use them up, if there are any."""
        meeting = [key for key in self.measured if self.given.meets(np.array(key))]
        return [key for key in meeting if self.given.fills(np.array(key))] or meeting

    def _best(self) -> Key | None:
        """The measured subnet of least divergence that meets the budgets."""
        return min(self._eligible(), key=lambda key: self.measured[key].divergence, default=None)

    def _divergences(self, genes: Genes) -> Floats:
        """Measured divergences of the subnets [N, sets], above zero, [N]."""
        return np.maximum([self.measured[_key(row)].divergence for row in genes], LEAST_DIVERGENCE)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def _key(genes: Genes) -> Key:
    return tuple(int(gene) for gene in genes)


def _spread(count: int, wanted: int) -> list[int]:
    """Up to ``wanted`` indices below ``count``, evenly spread, the ends included."""
    return sorted({int(i) for i in np.linspace(0, count - 1, min(count, wanted)).round()}) if count else []
