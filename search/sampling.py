"""Which subnets to measure, so that a predictor learns the whole space."""

from __future__ import annotations

from typing import Any

import numpy as np

from eqnet.space import ElasticSpace

Genes = np.ndarray[Any, np.dtype[np.int64]]


TRIES = 10
"""Draws for each subnet that is wanted; in a small space most of the last ones were drawn before."""


def sample_genes(space: ElasticSpace, count: int, rng: np.random.Generator) -> Genes:
    """Draws distinct subnets of every mean width, and with widths alike and unlike between layers.

    Independent draws would almost all have middling widths. Here each subnet first draws a mean width for weights,
    one for activations and a spread; layers then draw their widths around them, and the format evenly among those
    of that width.

    Args:
        space: to draw from.
        count: number of subnets.
        rng: the source of randomness.

    Returns:
        int64 [at most count, sets]; fewer than ``count`` if the space has hardly as many.
    """
    weight = [np.array([c.weight.bits for c in tied.choices]) for tied in space.sets]
    activation = [
        np.array([c.activation.bits if c.activation is not None else 0 for c in tied.choices]) for tied in space.sets
    ]
    bounds = [(min(map(np.min, widths)), max(map(np.max, widths))) for widths in (weight, activation)]
    drawn: dict[tuple[int, ...], None] = {}
    for _ in range(TRIES * count):
        if len(drawn) == count:
            break
        centers = [rng.uniform(low - 0.5, high + 0.5) for low, high in bounds]
        spread = rng.uniform(0.3, 2.0)
        row = []
        for widths in zip(weight, activation, strict=True):
            pool = np.arange(len(widths[0]))
            for center, values in zip(centers, widths, strict=True):
                distance = np.abs(values[pool] - rng.normal(center, spread))
                pool = pool[distance == distance.min()]
            row.append(int(rng.choice(pool)))
        drawn[tuple(row)] = None
    return np.array(list(drawn), dtype=np.int64)
