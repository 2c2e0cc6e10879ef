"""The genetic searches against enumeration."""

from __future__ import annotations

import random
from itertools import pairwise, product

import numpy as np
import pytest
from numpy.typing import NDArray

from eqnet import BudgetError, EqnetError
from eqnet.search.genetic import genetic_search, pareto_search

Ints = NDArray[np.int64]
SIZES = np.array([9, 8, 10, 7, 9])
EVERY = np.array(list(product(*map(range, SIZES))), dtype=np.int64)


def rugged(genes: Ints, seed: int = 0) -> NDArray[np.float64]:
    """A loss that is far from additive: the best choice of a set depends on its neighbours'."""
    rng = np.random.default_rng(seed)
    values = sum((rng.exponential(size=n)[genes[:, i]] for i, n in enumerate(SIZES)), np.zeros(len(genes)))
    for i, pair in enumerate(pairwise(SIZES)):
        values += rng.normal(size=pair)[genes[:, i], genes[:, i + 1]]
    return values


def prices(seed: int, limited: int) -> tuple[list[list[Ints]], list[int]]:
    rng = np.random.default_rng([seed, 7])
    costs = [[np.sort(rng.integers(0, 100, n)) for n in SIZES] for _ in range(limited)]
    return costs, [int(0.5 * sum(t.max() for t in cost)) for cost in costs]


def total(genes: Ints, cost: list[Ints]) -> Ints:
    return sum((table[genes[:, i]] for i, table in enumerate(cost)), np.zeros(len(genes), np.int64))


@pytest.mark.parametrize("limited", [0, 1, 2])
@pytest.mark.parametrize("seed", range(20))
def test_it_finds_the_best_of_all_networks_within_the_limits(seed: int, limited: int) -> None:
    costs, limits = prices(seed, limited)
    met = np.all([total(EVERY, c) <= limit for c, limit in zip(costs, limits)] or [np.ones(len(EVERY), bool)], axis=0)
    evolution = genetic_search(
        SIZES, lambda g: rugged(g, seed), costs, limits, np.random.default_rng(seed), patience=50
    )
    assert evolution.value == rugged(EVERY[met], seed).min()
    assert evolution.evaluated < 0.7 * met.sum(), "trying every network is no search"
    assert np.array_equal(rugged(evolution.top, seed), evolution.values)
    assert (np.diff(evolution.values) >= 0).all()
    assert len(np.unique(evolution.top, axis=0)) == len(evolution.top)
    for cost, limit in zip(costs, limits):
        assert (total(evolution.top, cost) <= limit).all()


def test_everything_that_is_evaluated_meets_the_limits_and_is_new() -> None:
    costs, limits = prices(0, 2)
    seen: list[Ints] = []

    def predict(genes: Ints) -> NDArray[np.float64]:
        seen.append(np.array(genes))
        return rugged(genes)

    evolution = genetic_search(SIZES, predict, costs, limits, np.random.default_rng(0), population=20, generations=20)
    genes = np.concatenate(seen)
    assert len(genes) == len(np.unique(genes, axis=0)) == evolution.evaluated
    assert all((total(genes, cost) <= limit).all() for cost, limit in zip(costs, limits))


def test_the_history_never_rises_and_ends_at_the_best() -> None:
    evolution = genetic_search(SIZES, rugged, [], [], np.random.default_rng(1), population=10, generations=30)
    assert len(evolution.history) == 31
    assert (np.diff(evolution.history) <= 0).all()
    assert evolution.history[-1] == evolution.value


def test_patience_stops_a_search_that_is_done() -> None:
    evolution = genetic_search(
        SIZES, rugged, [], [], np.random.default_rng(1), population=50, generations=500, patience=5
    )
    assert len(evolution.history) < 200


def test_gains_within_the_tolerance_count_as_none() -> None:
    def length(tolerance: float) -> int:
        rng = np.random.default_rng(1)
        return len(
            genetic_search(
                SIZES, rugged, [], [], rng, population=10, generations=500, patience=20, tolerance=tolerance
            ).history
        )

    assert length(np.inf) == 21, "nothing is gain enough"
    assert length(np.inf) < length(0.5) < length(0.0)


def test_same_generator_same_result_and_global_ones_stay() -> None:
    costs, limits = prices(3, 1)
    states = random.getstate(), np.random.get_state()[1].copy()  # type: ignore[union-attr,index]
    first, second = (
        genetic_search(SIZES, rugged, costs, limits, np.random.default_rng(4), population=10, generations=5)
        for _ in range(2)
    )
    assert np.array_equal(first.top, second.top)
    assert np.array_equal(first.history, second.history)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # type: ignore[index]


def test_a_seed_at_the_optimum_is_kept_and_one_beyond_a_limit_repaired() -> None:
    best = EVERY[rugged(EVERY).argmin()]
    evolution = genetic_search(
        SIZES, rugged, [], [], np.random.default_rng(0), population=4, generations=1, seeds=[best]
    )
    assert np.array_equal(evolution.genes, best)
    costs, limits = prices(0, 1)
    evolution = genetic_search(
        SIZES, rugged, costs, limits, np.random.default_rng(0), population=4, generations=1, seeds=[SIZES - 1]
    )
    assert (total(evolution.top, costs[0]) <= limits[0]).all()


def test_impossible_limits_and_predictions_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(BudgetError, match="meets the limits"):
        genetic_search(SIZES, rugged, [[np.full(n, 3) for n in SIZES]], [14], np.random.default_rng(0))
    with pytest.raises(EqnetError, match="NaN"):
        genetic_search(SIZES, lambda g: np.full(len(g), np.nan), [], [], np.random.default_rng(0))


@pytest.mark.parametrize("limited", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_the_pareto_front_is_that_of_all_networks(seed: int, limited: int) -> None:
    sizes, every = SIZES[:4], np.array(list(product(*map(range, SIZES[:4]))), dtype=np.int64)
    rng = np.random.default_rng(seed)
    tables = [rng.exponential(size=n) for n in sizes]
    pair = rng.exponential(size=sizes[:2])
    cost = [np.sort(rng.integers(0, 100, n)) for n in sizes]
    further, limits = [[rng.integers(0, 10, n) for n in sizes]][:limited], [20][:limited]
    tried = 0

    def loss(genes: Ints) -> NDArray[np.float64]:
        return sum((t[genes[:, i]] for i, t in enumerate(tables)), pair[genes[:, 0], genes[:, 1]])

    def predict(genes: Ints) -> NDArray[np.float64]:
        nonlocal tried
        tried += len(genes)
        return loss(genes)

    met = np.all([total(every, c) <= limit for c, limit in zip(further, limits)] or [np.ones(len(every), bool)], axis=0)
    losses, spent = loss(every[met]), total(every[met], cost)
    expected = {
        (value, price)
        for value, price in zip(losses, spent)
        if not ((losses <= value) & (spent <= price) & ((losses < value) | (spent < price))).any()
    }
    front = pareto_search(sizes, predict, cost, np.random.default_rng(0), costs=further, limits=limits, generations=20)
    assert {(value, price) for _, value, price in front} == expected
    assert tried < 0.75 * met.sum(), "trying every network is no search"
    assert [price for *_, price in front] == sorted(price for *_, price in front)
    for genes, value, price in front:
        assert (loss(genes[None])[0], total(genes[None], cost)[0]) == (value, price)


def test_the_same_generator_traces_the_same_front_and_global_ones_stay() -> None:
    states = random.getstate(), np.random.get_state()[1].copy()  # type: ignore[union-attr,index]
    costs, _ = prices(0, 1)
    first, second = (
        pareto_search(SIZES, rugged, costs[0], np.random.default_rng(3), population=20, generations=5) for _ in range(2)
    )
    assert [(genes.tolist(), value, price) for genes, value, price in first] == [
        (genes.tolist(), value, price) for genes, value, price in second
    ]
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # type: ignore[index]
