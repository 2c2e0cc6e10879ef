"""Leaves out, before anything is measured, formats that no budget asks for, by their bytes and expected divergence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from eqnet.formats import Format
from eqnet.lm.bank import Shared
from eqnet.lm.methods import Method
from eqnet.lm.sensitivity import Sensitivity
from eqnet.lm.workers import on_threads
from eqnet.search.cost import CostModel
from eqnet.search.problem import undominated
from eqnet.space import ElasticSpace, TiedSet

Report = Callable[[str, int, int], None]
Table: TypeAlias = Mapping[str, Mapping[str, float]]
"""By the name of a tied set and the text of a weight's format, nats of divergence."""

Floats = np.ndarray[Any, np.dtype[np.float64]]
Genes = np.ndarray[Any, np.dtype[np.int64]]

SLACK = 1.1
"""Of what the hull loses at the same price: how much a choice may lose to be kept."""

ROWS = 128
"""Rows of a layer that are quantized to tell its formats apart: the same ones in every format, so that what they are
not like the others is alike in all."""


def expected_divergence(
    space: ElasticSpace,
    shared: Mapping[str, Sequence[Shared]],
    method: Method,
    weight: Callable[[str], Tensor],
    sensitivity: Sensitivity,
    *,
    scale: torch.dtype,
    seed: int = 0,
    report: Report | None = None,
) -> dict[str, dict[str, float]]:
    """What each choice of each tied set is expected to cost in divergence, estimated on a part of its rows.

    Args:
        space: of the model.
        shared: by the name of a tied set, its weights.
        method: that makes codes.
        weight: gives the weight of a layer, float32 [rows, cols].
        sensitivity: of the model.
        scale: type of the scales.
        seed: of the rows.
        report: told (stage, done, total).
    """

    def of_set(tied: TiedSet) -> dict[str, float]:
        formats = list(dict.fromkeys(choice.weight for choice in tied.choices))
        totals = np.zeros(len(formats))
        for layers in shared[tied.name]:
            totals += _of_weight(layers, formats, method, weight(layers.name), sensitivity, scale, seed)
        return {str(fmt): float(nats) for fmt, nats in zip(formats, totals, strict=True)}

    found = on_threads(of_set, space.sets, "Comparing formats", report)
    return {tied.name: table for tied, table in zip(space.sets, found, strict=True)}


def _of_weight(
    layers: Shared,
    formats: Sequence[Format],
    method: Method,
    weight: Tensor,
    sensitivity: Sensitivity,
    scale: torch.dtype,
    seed: int,
) -> Floats:
    """Nats of each format, [formats]."""
    totals = np.zeros(len(formats))
    for path in layers.paths:
        drawn = sensitivity.drawn(path, ROWS, seed) if len(weight) > ROWS else None
        part = weight if drawn is None else weight[drawn]
        every = method.codes(part, formats, scale, sensitivity.inputs[layers.hessian])
        totals += [sensitivity.of_codes(path, codes, layers.hessian, drawn) for codes in every]
    return totals


def pruned(space: ElasticSpace, expected: Table) -> ElasticSpace:
    """The choices at which a sum of divergences under a sum of bytes can have its minimum, and those near them.

    Such a sum is least where every set takes the best of its choices at one price of a byte, but for a few that use up
    the rest of the budget: choices on the lower convex hull of bytes and divergence. Those up to ``SLACK`` above it are
    kept as well, as expectations are not exact.
    """
    prices = CostModel(space).tables["bytes"]
    sets: list[TiedSet] = []
    for tied, price in zip(space.sets, prices, strict=True):
        nats = np.array([expected[tied.name][str(choice.weight)] for choice in tied.choices])
        kept = near_hull(price.astype(np.float64), nats)
        sets.append(replace(tied, choices=tuple(tied.choices[int(i)] for i in kept)))
    return replace(space, sets=tuple(sets))


def near_hull(price: Floats, loss: Floats) -> Genes:
    """Indices of the points that no other one matches or beats in both, and that are near the lower convex hull.

    Args:
        price: float64 [choices].
        loss: not negative, float64 [choices].
    """
    kept = undominated(np.stack([loss, price], axis=1))
    kept = kept[np.argsort(price[kept], kind="stable")]
    hull: list[int] = []
    for i in kept:
        while len(hull) > 1 and _above(hull[-1], hull[-2], i, price, loss):
            hull.pop()
        hull.append(int(i))
    lowest = np.interp(price[kept], price[hull], loss[hull])
    return np.sort(kept[loss[kept] <= SLACK * lowest])


def _above(middle: int, left: int, right: int, price: Floats, loss: Floats) -> bool:
    """Whether a point is not below the line through the two beside it."""
    run, rise = price[right] - price[left], loss[right] - loss[left]
    return bool(loss[middle] >= loss[left] + rise * (price[middle] - price[left]) / run)
