"""Which subnets to measure: near the front of size against divergence, at every size that matters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from eqnet.search.cost import CostModel
from eqnet.space import ElasticSpace

Floats = np.ndarray[Any, np.dtype[np.float64]]
Genes = np.ndarray[Any, np.dtype[np.int64]]

HIGHEST = 7.0
"""Stored bits per weight; above, all subnets are as good as the model in floating point."""

_TRIES = 10
"""Draws for each subnet that is wanted; in a small space most of the last ones were drawn before."""

_STEPS = 40
"""Of the bisection for the price of a byte."""


def spread(space: ElasticSpace, nats: Sequence[Floats], count: int, rng: np.random.Generator) -> Genes:
    """Draws distinct subnets of every size, each the best one for sensitivities that are off by random factors.

    A subnet that is drawn evenly has middling widths everywhere, which no search proposes. Here each subnet draws its
    size evenly, and for each tied set a factor of its sensitivity; then every set takes the choice that is best at the
    price of a byte at which the subnet has that size.

    Args:
        space: to draw from.
        nats: for each tied set, the divergence that is expected of its choices, float64 [choices].
        count: number of subnets.
        rng: the source of randomness.

    Returns:
        int64 [at most count, sets]; fewer than ``count`` if the space has hardly as many.
    """
    costs = CostModel(space)
    prices = [table.astype(np.float64) for table in costs.tables["bytes"]]
    low, high = (
        costs.total("bytes", np.array([[int(pick(table)) for table in prices]]))[0] for pick in (np.argmin, np.argmax)
    )
    # [sets, widest]; choices that a set lacks are never the best.
    price, loss = _padded(prices), _padded(nats)
    weights = sum(layer.weights for layer in space.layers if layer.stored)
    high = min(high, max(low, space.float_bytes + HIGHEST * weights / 8))
    drawn: dict[tuple[int, ...], None] = {}
    for attempt in range(_TRIES * count):
        if len(drawn) == count:
            break
        # Strata, so that even a few subnets have every size.
        size = low + (high - low) * ((attempt + rng.random()) / count % 1.0)
        factors = np.exp(rng.normal(0.0, rng.uniform(0.2, 1.5), len(nats)))
        drawn[_at(size, factors[:, None] * loss, price)] = None
    genes = np.array(list(drawn), dtype=np.int64)
    return genes[rng.permutation(len(genes))]  # those held out shall have every size, too


def _at(size: float, loss: Floats, price: Floats) -> tuple[int, ...]:
    """The genes of least loss of about ``size`` bytes, by bisection for the price of a byte; [sets, widest] each."""
    low, high = -60.0, 20.0
    sets = np.arange(len(loss))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        genes = np.argmin(loss + np.exp(middle) * price, axis=1)
        if price[sets, genes].sum() > size:
            low = middle
        else:
            high = middle
    return tuple(int(gene) for gene in np.argmin(loss + np.exp(high) * price, axis=1))


def _padded(tables: Sequence[Floats]) -> Floats:
    """One row a table, with infinity behind its end."""
    rows = np.full((len(tables), max(map(len, tables))), np.inf)
    for row, table in zip(rows, tables, strict=True):
        row[: len(table)] = table
    return rows
