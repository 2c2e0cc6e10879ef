"""Leaves out, before anything is measured, the formats that another one beats in bytes and in expected divergence."""

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
from eqnet.search.cost import CostModel
from eqnet.search.problem import undominated
from eqnet.space import ElasticSpace, TiedSet

Report = Callable[[str, int, int], None]
Table: TypeAlias = Mapping[str, Mapping[str, float]]
"""By the name of a tied set and the text of a weight's format, nats of divergence."""

ROWS = 192
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
        method: a cheap one.
        weight: gives the weight of a layer, float32 [rows, cols].
        sensitivity: of the model.
        scale: type of the scales.
        seed: of the rows.
        report: told (stage, done, total).
    """
    found: dict[str, dict[str, float]] = {}
    for done, tied in enumerate(space.sets):
        if report is not None:
            report("Comparing formats", done, len(space.sets))
        formats = list(dict.fromkeys(choice.weight for choice in tied.choices))
        totals = np.zeros(len(formats))
        for layers in shared[tied.name]:
            totals += _of_weight(layers, formats, method, weight(layers.name), sensitivity, scale, seed)
        found[tied.name] = {str(fmt): float(nats) for fmt, nats in zip(formats, totals, strict=True)}
    if report is not None:
        report("Comparing formats", len(space.sets), len(space.sets))
    return found


def _of_weight(
    layers: Shared,
    formats: Sequence[Format],
    method: Method,
    weight: Tensor,
    sensitivity: Sensitivity,
    scale: torch.dtype,
    seed: int,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Nats of each format, [formats]."""
    totals = np.zeros(len(formats))
    for path in layers.paths:
        drawn = sensitivity.drawn(path, ROWS, seed) if len(weight) > ROWS else None
        part = weight if drawn is None else weight[drawn]
        packed = method.quantize_all(part, formats, scale, sensitivity.inputs[layers.hessian])
        totals += [sensitivity.divergence(path, codes.dequantize() - part, drawn) for codes in packed]
    return totals


def pruned(space: ElasticSpace, expected: Table) -> ElasticSpace:
    """The choices that no other one of their set matches in bytes and in expected divergence."""
    prices = CostModel(space).tables["bytes"]
    sets: list[TiedSet] = []
    for tied, price in zip(space.sets, prices, strict=True):
        nats = [expected[tied.name][str(choice.weight)] for choice in tied.choices]
        kept = undominated(np.stack([np.array(nats), price.astype(np.float64)], axis=1))
        sets.append(replace(tied, choices=tuple(tied.choices[int(i)] for i in kept)))
    return replace(space, sets=tuple(sets))
