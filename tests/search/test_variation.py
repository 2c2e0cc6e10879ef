"""How new genes are made, whatever their sets look like."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from eqnet import BudgetError
from eqnet.search.variation import Variation

Ints = NDArray[np.int64]
UNEVEN = np.array([3, 1, 7, 2])
"""Numbers of choices; the tables behind them are padded to the widest."""


def variation(costs: list[list[Ints]], limits: list[int], sizes: Ints = UNEVEN, rate: float = 0.1) -> Variation:
    return Variation(sizes, costs, limits, np.random.default_rng(0), rate)


def widths(sizes: Ints = UNEVEN) -> list[Ints]:
    """Dearer with every choice."""
    return [np.arange(n, dtype=np.int64) * 10 + i for i, n in enumerate(sizes)]


def total(genes: Ints, cost: list[Ints]) -> Ints:
    return np.array([sum(int(table[g]) for table, g in zip(cost, row)) for row in genes])


def test_costs_are_sums_of_the_tables() -> None:
    cost = widths()
    genes = np.array(list(product(*map(range, UNEVEN))))
    assert np.array_equal(variation([cost], [1000]).cost(genes)[0], total(genes, cost))


@pytest.mark.parametrize("limit", [6, 16, 60, 1000])
def test_every_operator_stays_within_the_sets_and_the_limit(limit: int) -> None:
    cost = widths()
    made = variation([cost], [limit])
    parents = made.random(40)
    for genes in (parents, made.repair(made.mutate(parents, 200)), made.repair(made.crossover(parents, 200))):
        assert (genes >= 0).all()
        assert (genes < UNEVEN).all()
        assert (total(genes, cost) <= limit).all()


def test_without_a_limit_every_choice_is_drawn_evenly() -> None:
    genes = variation([], []).random(7000)
    for i, size in enumerate(UNEVEN):
        counts = np.bincount(genes[:, i], minlength=int(size))
        assert len(counts) == size
        assert (np.abs(counts - 7000 / size) < 5 * np.sqrt(7000 / size)).all()


def test_repair_leaves_alone_what_meets_the_limits_and_the_callers_array() -> None:
    cost = widths()
    genes = np.array(list(product(*map(range, UNEVEN))))
    before = genes.copy()
    repaired = variation([cost], [30]).repair(genes)
    fine = total(genes, cost) <= 30
    assert np.array_equal(genes, before)
    assert np.array_equal(repaired[fine], genes[fine])
    assert (total(repaired, cost) <= 30).all()


def test_repair_gives_away_little_where_it_can() -> None:
    """Half of the repairs take the dearest choice that fits."""
    sizes = np.full(6, 9)
    cost = [np.arange(9, dtype=np.int64) for _ in sizes]
    repaired = variation([cost], [24], sizes).repair(np.full((200, 6), 8))
    assert np.quantile(total(repaired, cost), 0.5) >= 22


@pytest.mark.parametrize("seed", range(10))
def test_limits_that_block_each_other_are_met_all_the_same(seed: int) -> None:
    """What saves of one costs of the other; few networks, down to one alone, meet both."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 6, 5)
    costs = [[rng.permutation(100)[:n] for n in sizes] for _ in range(2)]
    every = np.array(list(product(*map(range, sizes))))
    sums = np.stack([total(every, cost) for cost in costs])
    tightest = sums[:, sums.max(axis=0).argmin()]
    made = variation(costs, tightest.tolist(), sizes)
    repaired = made.repair(every)
    assert all((total(repaired, cost) <= limit).all() for cost, limit in zip(costs, tightest))


def test_children_of_a_crossing_take_each_gene_from_a_parent() -> None:
    parents = np.array([[0, 0, 1, 0], [2, 0, 5, 1]])
    children = variation([], []).crossover(parents, 300)
    assert len(np.unique(children, axis=0)) == 2 * 2 * 2
    for i in range(4):
        assert set(children[:, i]) == set(parents[:, i])


def test_mutants_differ_from_their_parent_by_a_few_genes() -> None:
    sizes = np.full(50, 7)
    parent = np.full((1, 50), 3)
    changed = (variation([widths(sizes)], [10**6], sizes).mutate(parent, 2000) != parent).sum(axis=1)
    assert 1 <= changed.mean() <= 6  # half redraw a tenth of 50 genes, the others change one or two
    assert changed.max() < 20


def test_an_exchange_keeps_the_cost_near() -> None:
    sizes = np.full(10, 7)
    cost = [np.arange(7, dtype=np.int64) * 100 for _ in sizes]
    made = variation([cost], [10**6], sizes)
    genes = np.full((300, 10), 3)
    made._exchange(genes, np.arange(300))
    assert (total(genes, cost) == 3000).all()
    assert (genes != 3).any(axis=1).mean() > 0.7


@pytest.mark.parametrize("sizes", [[1], [4], [1, 1, 1]], ids=str)
def test_spaces_with_hardly_a_choice_work(sizes: list[int]) -> None:
    made = variation([widths(np.array(sizes))], [10**3], np.array(sizes))
    genes = made.mutate(made.random(5), 20)
    assert genes.shape == (20, len(sizes))
    assert (genes < sizes).all()


@pytest.mark.parametrize("limited", [1, 2])
def test_limits_that_nothing_meets_are_refused(limited: int) -> None:
    with pytest.raises(BudgetError, match="no network of the space meets the limits"):
        variation([widths()] * limited, [5] * limited)
    assert (variation([widths()] * limited, [6] * limited).random(3) == 0).all()


def test_same_generator_same_genes() -> None:
    first, second = (variation([widths()], [40]) for _ in range(2))
    for _ in range(3):
        assert np.array_equal(first.mutate(first.random(20), 30), second.mutate(second.random(20), 30))
