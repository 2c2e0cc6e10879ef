"""The exact optimum against brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from eqnet.search.exact import minimize

Ints = NDArray[np.int64]


def brute_force(
    losses: list[NDArray[np.float64]], costs: list[list[Ints]], limits: list[int]
) -> tuple[float, tuple[int, ...]] | None:
    best = None
    for genes in product(*(range(len(table)) for table in losses)):
        # Python's integers do not overflow.
        if all(sum(int(t[g]) for t, g in zip(cost, genes)) <= limit for cost, limit in zip(costs, limits)):
            value = float(sum(table[g] for table, g in zip(losses, genes)))
            if best is None or value < best[0]:
                best = value, genes
    return best


@pytest.mark.parametrize("limited", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_it_is_the_best_of_all_networks(seed: int, limited: int) -> None:
    rng = np.random.default_rng([seed, limited])
    sizes = rng.integers(1, 6, 5)
    losses = [rng.exponential(size=n) for n in sizes]
    costs = [[rng.integers(0, 50, n) for n in sizes] for _ in range(limited)]
    limits = [int(sum(np.median(t) for t in cost)) for cost in costs]
    found, expected = minimize(losses, costs, limits), brute_force(losses, costs, limits)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found.value == pytest.approx(expected[0], rel=1e-9)
        assert all(sum(t[g] for t, g in zip(cost, found.genes)) <= limit for cost, limit in zip(costs, limits))


def test_a_limit_may_be_met_to_the_last_unit_but_not_passed() -> None:
    losses = [np.array([1.0, 0.0])] * 3
    cost = [np.array([0, 10**15 + i]) for i in range(3)]  # the last digits decide
    both = 2 * 10**15 + 1
    assert minimize(losses, [cost], [both]).genes.tolist() == [1, 1, 0]  # type: ignore[union-attr]
    assert minimize(losses, [cost], [both - 1]).genes.sum() == 1  # type: ignore[union-attr]


@pytest.mark.parametrize("limited", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_costs_near_the_largest_integers_are_compared_to_the_last_unit(seed: int, limited: int) -> None:
    """Sums pass 2^59, where floats are 64 apart; the limit is one network's sum, or one less."""
    rng = np.random.default_rng([seed, limited])
    sizes = rng.integers(2, 6, 5)
    losses = [rng.exponential(size=n) for n in sizes]
    costs = [[2**57 * rng.integers(1, 3, n) + rng.integers(0, 4, n) for n in sizes] for _ in range(limited)]
    genes = rng.integers(0, sizes)
    limits = [sum(int(table[g]) for table, g in zip(cost, genes)) - seed % 2 for cost in costs]
    found, expected = minimize(losses, costs, limits), brute_force(losses, costs, limits)
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert found.value == pytest.approx(expected[0], rel=1e-9)
        for cost, limit in zip(costs, limits):
            assert sum(int(table[g]) for table, g in zip(cost, found.genes)) <= limit


def test_a_choice_that_is_one_unit_cheaper_is_kept_whatever_the_unit() -> None:
    cost = [np.array([2**58 + 1, 2**58])]
    assert minimize([np.array([0.0, 1.0])], [cost], [2**58]).genes.tolist() == [1]  # type: ignore[union-attr]
    assert minimize([np.array([0.0, 1.0])], [cost], [2**58 + 1]).genes.tolist() == [0]  # type: ignore[union-attr]


def test_what_no_network_meets_has_no_optimum() -> None:
    losses = [np.array([1.0, 0.0])] * 2
    apart = [[np.array([0, 5])] * 2, [np.array([5, 0])] * 2]
    assert minimize(losses, apart, [10, 10]) is not None
    assert minimize(losses, apart, [4, 4]) is None
    assert minimize(losses, [[np.array([3, 4])] * 2], [5]) is None


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e12], ids=str)
def test_losses_of_any_size_are_told_apart(scale: float) -> None:
    losses = [np.array([3.0, 1.0, 2.0]) * scale, np.array([0.5, 0.25]) * scale]
    assert minimize(losses).genes.tolist() == [1, 1]  # type: ignore[union-attr]


def test_equals_are_settled_the_same_way_each_time() -> None:
    losses = [np.array([1.0, 1.0, 1.0])] * 4
    cost = [np.array([2, 1, 1])] * 4
    first = minimize(losses, [cost], [8])
    assert first is not None
    assert all(np.array_equal(minimize(losses, [cost], [8]).genes, first.genes) for _ in range(3))  # type: ignore[union-attr]


def test_nothing_is_written_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    losses = [rng.exponential(size=20) for _ in range(20)]
    cost = [rng.integers(0, 1000, 20) for _ in range(20)]
    minimize(losses, [cost], [8000])
    assert capfd.readouterr().out == ""
