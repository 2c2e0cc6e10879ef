"""Which choices are worth their codes, against SciPy's convex hull."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from eqnet.lm.pruning import SLACK, near_hull


@pytest.mark.parametrize("seed", range(8))
def test_the_lower_convex_hull_is_kept_and_little_above_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    price = rng.permutation(np.arange(2.0, 9.0, 0.1))
    loss = 4.0**-price * rng.uniform(1, 3, len(price))
    kept = near_hull(price, loss)
    hull = ConvexHull(np.stack([price, loss], axis=1))
    facets = zip(hull.simplices, hull.equations, strict=True)
    below = {int(i) for facet, normal in facets if max(normal[:2]) < 0 for i in facet}  # where dearer loses less
    assert below <= set(kept.tolist())
    order = sorted(below, key=lambda i: price[i])
    for i in kept:
        assert not any((price[j] <= price[i]) & (loss[j] < loss[i]) for j in range(len(price)))
        assert loss[i] <= SLACK * np.interp(price[i], price[order], loss[order]) + 1e-12
    assert kept.tolist() == sorted(kept.tolist())


def test_of_one_choice_it_is_kept() -> None:
    assert near_hull(np.array([4.0]), np.array([0.5])).tolist() == [0]


def test_what_loses_nothing_for_more_is_left_out() -> None:
    assert near_hull(np.array([1.0, 2.0, 3.0]), np.array([1.0, 0.0, 0.0])).tolist() == [0, 1]
