"""A packed weight as ggml's types see it: steps of a scale, in blocks of 32 columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqnet.packed.tensor import PackedTensor

BLOCK = 32
"""Columns that share a scale in the smallest blocks of ggml."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Grid:
    """What a weight is made of: ``steps · scale``, exactly.

    Attributes:
        steps: codes less their zero points, int16 [rows, cols].
        zero: what the zero points are among codes that start from 0, int16 [rows, cols / 32].
        scale: float16 [rows, cols / 32].
    """

    steps: Array
    zero: Array
    scale: Array

    @property
    def codes(self) -> Array:
        """Codes that start from 0, int16 [rows, cols]."""
        codes: Array = self.steps + np.repeat(self.zero, BLOCK, axis=1)
        return codes

    def wide(self, size: int) -> bool:
        """Whether every ``size`` columns share a scale."""
        rows, blocks = self.scale.shape
        each = size // BLOCK
        if blocks % each:
            return False
        spans = self.scale.view(np.uint16).reshape(rows, -1, each)
        return bool((spans == spans[:, :, :1]).all())


def why_not(weight: PackedTensor) -> str | None:
    """What keeps a weight from being a grid, in words; None if nothing does."""
    fmt = weight.format
    if weight.cols % BLOCK:
        return f"{weight.cols} columns are no multiple of {BLOCK}"
    if weight.scale.shape[1] > 1 and fmt.group_size % BLOCK:
        return f"ggml's types have no scale for {fmt.group_size} columns, but for {BLOCK}"
    if not torch.equal(weight.scale.half().float(), weight.scale.float()):
        return "ggml's scales are float16, and these are not; quantize with scale=fp16"
    return None


def grid_of(weight: PackedTensor, order: Tensor | None = None) -> Grid:
    """The grid of a weight that ``why_not`` has nothing against.

    Args:
        weight: [rows, cols].
        order: of its rows, int64 [rows]; as they are if None.
    """
    codes, scale, zero = weight.integers() - weight.format.qmin, weight.scale.half(), _zero(weight)
    groups = scale.shape[1]
    size = weight.format.group_size if groups > 1 else weight.cols
    of_block = torch.arange(0, weight.cols, BLOCK, device=scale.device) // max(size, 1)
    scale, zero = (part.expand(weight.rows, groups)[:, of_block] for part in (scale, zero))
    if order is not None:
        codes, scale, zero = codes[order], scale[order], zero[order]
    steps = codes - zero.repeat_interleave(BLOCK, 1)
    return Grid(*(part.cpu().contiguous().numpy() for part in (steps, zero, scale)))


def _zero(weight: PackedTensor) -> Tensor:
    """Zero points among codes that start from 0."""
    return weight.zero_points() - weight.format.qmin
