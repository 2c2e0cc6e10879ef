"""How ranges are searched for and errors made good, slowly and plainly: one group, one row, one column at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqnet.formats import Format
from eqnet.lm.rounded import stored_scale

Floats = np.ndarray[Any, np.dtype[np.floating[Any]]]

FINEST = {2: 0.996, 3: 0.586, 4: 0.335, 5: 0.188, 6: 0.104, 7: 0.057, 8: 0.031}
"""Steps of least squared error for a normal distribution (Max, 1960), in standard deviations."""


def full_range(x: Floats, fmt: Format, dtype: torch.dtype) -> tuple[float, float]:
    """Scale and zero point of one group, from its extremes and 0."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    width = max(high, -low) if fmt.symmetric else high - low
    scale = _stored(width / fmt.qmax if width else 1.0, dtype)
    return scale, 0.0 if fmt.symmetric else min(float(np.rint(-low / scale)), fmt.qmax)


def searched_range(x: Floats, h: Floats, fmt: Format, dtype: torch.dtype) -> tuple[float, float]:
    """Scale and zero point of one group, of least ``Σ h · (x - dequantized x)²`` of what is tried; float64."""
    full, zero = full_range(x, fmt, dtype)
    best, most = (1.0, 0.0), 0.0
    offered = [(full, zero)]

    def fit(scale: float, zero: float) -> None:
        nonlocal best, most
        codes = _codes(x, scale, zero, fmt)
        square, product = float(h @ codes**2), float(h @ (x * codes))
        if square > 0 and product**2 / square > most:
            best, most = (product / square, zero), product**2 / square

    for scale in _scales(x, fmt, full):
        fit(scale, zero)
    if not fmt.symmetric:
        near, middle = best
        for shifted in (max(middle - 1, 0.0), min(middle + 1, float(fmt.qmax))):
            for factor in (0.94, 1.0, 1.06):
                fit(near * factor, shifted)
    for _ in range(2):
        offered.append((_stored(best[0], dtype), best[1]))
        fit(*best)
    offered.append((_stored(best[0], dtype), best[1]))
    return min(offered, key=lambda found: loss(x, h, *found, fmt))


def loss(x: Floats, h: Floats, scale: float, zero: float, fmt: Format) -> float:
    """``Σ h · (x - dequantized x)²`` of one group."""
    return float(h @ (_codes(x, scale, zero, fmt) * scale - x) ** 2)


def rounded(
    row: Floats, scale: Floats, zero: Floats, fmt: Format, factor: Floats, order: list[int]
) -> Iterator[tuple[int, float, Floats]]:
    """Error compensation of one row in float32: columns in order, their codes, and the row as each of them met it."""
    row = row.copy()
    for i, column in enumerate(order):
        yield_row = row.copy()
        code = np.clip(np.rint(row[column] / scale[column]) + zero[column], fmt.qmin, fmt.qmax)
        error = (row[column] - (code - zero[column]) * scale[column]) / factor[i, i]
        for k in range(i + 1, len(order)):
            row[order[k]] -= error * factor[k, i]
        yield column, float(code), yield_row


def _codes(x: Floats, scale: float, zero: float, fmt: Format) -> Floats:
    """Less their zero point."""
    return np.clip(np.rint(x / scale), fmt.qmin - zero, fmt.qmax - zero)


def _scales(x: Floats, fmt: Format, full: float) -> Floats:
    """From what clips nothing down to what suits a normal distribution, each the same share of the one before."""
    top = max(float(x.max()) / fmt.qmax, float(x.min()) / fmt.qmin) if fmt.symmetric else full
    top = top if top > 0 else full
    end = min(0.8 * FINEST[fmt.bits] * float(x.std()), 0.95 * top)
    return np.geomspace(top, max(end, 1e-3 * top), 10)


def _stored(scale: float, dtype: torch.dtype) -> float:
    return float(stored_scale(torch.tensor(scale), dtype))


def random_weight(rows: int, cols: int, seed: int = 0) -> Tensor:
    """Of rows with heavier tails than a normal distribution, not around 0."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(rows, cols, generator=generator)
    return (normal * (1 + normal.square() / 4) + torch.rand(rows, 1, generator=generator)) * 0.05
