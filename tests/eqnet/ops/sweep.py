"""Linear kernels against float64 on the dequantized weights, within bounds; run as a program, for one instruction set.

``EQNET_CPU`` is read once a process, and so each of the others needs one of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eqnet import _kernels
from eqnet.formats import Format
from eqnet.ops import Panels, packed_linear, packed_linear_static
from eqnet.packed.tensor import PackedTensor
from tests.eqnet.ops.weights import FORMATS, SCALES, SHAPES, made

ROWS = (1, 2, 3, 7, 8, 9, 17, 40)
"""Of activations: what decode kernels take, and one tile and many of the others."""

FLOAT = 1e-6
"""Error over the sum of the magnitudes of what is added: float32 sums of at most 640 products, and of a bias."""

BFLOAT16 = 2**-8
"""Relative error of rounding to 8 bits of significand."""

INT8 = 1 / 254
"""Largest error of an activation over the largest activation of its segment: half a step of 127."""

INPUTS = [
    (Format.parse("int8:tensor"), 0.03, 0),
    (Format.parse("uint8:tensor"), 0.03, 100),
    (Format.parse("uint3:tensor"), 0.5, 3),
    (Format.parse("int4:tensor"), 0.4, 0),
]
"""Format, scale and zero point of static activations; some of what is drawn is clipped."""


def segments(cols: int, size: int) -> list[slice]:
    """The columns over which int8 activations share a scale: 32 of a group from its start on."""
    size = min(size or cols, cols)
    return [
        slice(start, min(start + 32, group + size, cols))
        for group in range(0, cols, size)
        for start in range(group, min(group + size, cols), 32)
    ]


def largest(x: Tensor, cols: int, size: int) -> NDArray[np.float64]:
    """``x`` [rows, cols] with each element replaced by the largest magnitude of its segment."""
    result = np.zeros(x.shape)
    for part in segments(cols, size):
        result[:, part] = np.abs(x.double().numpy()[:, part]).max(axis=1, keepdims=True)
    return result


def centered(stored: PackedTensor) -> NDArray[np.float64]:
    """What multiplies activations: magnitudes of codes and of zero points, both less the middle of the codes."""
    middle = 0 if stored.format.symmetric else 2 ** (stored.format.bits - 1)
    scale, zero = (
        part.double().repeat_interleave(stored.format.group_size or stored.cols, 1)[:, : stored.cols].numpy()
        for part in (stored.scale, stored.zero_points() - (0 if stored.format.symmetric else middle))
    )
    return (np.abs(stored.integers().numpy() - float(middle)) + np.abs(zero)) * scale


def check(fmt: Format, rows: int, cols: int, scale: torch.dtype, with_bias: bool, counts: Iterable[int]) -> None:
    """Raises AssertionError unless all results are within their bounds."""
    generator = torch.Generator().manual_seed(rows + cols)
    stored = made(fmt, rows, cols, scale)
    panels = Panels.of(stored)
    weight, most = stored.dequantize().double().numpy(), centered(stored).T
    bias = torch.randn(rows, generator=generator) if with_bias else None
    added = bias.double().numpy() if bias is not None else np.zeros(rows)
    every = torch.randn(max(ROWS), cols, generator=generator)
    for m in counts:
        x = every[:m]
        exact = x.double().numpy() @ weight.T + added
        magnitude = np.abs(x.double().numpy()) @ most + np.abs(added)
        _within(packed_linear(x, panels, bias), exact, FLOAT * magnitude)
        half = x.bfloat16()
        exact16 = half.double().numpy() @ weight.T + added
        _within(packed_linear(half, panels, bias), exact16, BFLOAT16 * np.abs(exact16) + 2 * FLOAT * magnitude)
        rounding = INT8 * largest(x, cols, fmt.group_size) @ np.abs(weight.T)
        _within(packed_linear(x, panels, bias, "int8"), exact, rounding + 2 * FLOAT * magnitude)
        _check_static(x, panels, weight, bias, added, *INPUTS[m % len(INPUTS)])


def _check_static(
    x: Tensor,
    panels: Panels,
    weight: NDArray[np.float64],
    bias: Tensor | None,
    added: NDArray[np.float64],
    fmt: Format,
    scale: float,
    zero: int,
) -> None:
    codes = np.clip(np.rint(x.numpy() / np.float32(scale)) + zero, fmt.qmin, fmt.qmax)
    exact = (codes - zero) * float(np.float32(scale)) @ weight.T + added
    magnitude = float(np.float32(scale)) * (np.abs(codes) + 128) @ np.abs(weight.T) + np.abs(added)
    correction = torch.from_numpy(weight.sum(axis=1)).float()
    _within(packed_linear_static(x, panels, bias, correction, fmt, scale, zero), exact, FLOAT * magnitude)


def _within(found: Tensor, exact: NDArray[np.float64], bound: NDArray[np.float64]) -> None:
    error = np.abs(found.double().numpy() - exact)
    worst = np.unravel_index(np.argmax(error - bound), error.shape)
    assert (error <= bound).all(), f"{error[worst]:.3g} off, {bound[worst]:.3g} allowed"


def sweep(formats: list[Format]) -> None:
    """All shapes, with types of scales, biases and rows of activations in turn."""
    for fmt in formats:
        for index, (rows, cols) in enumerate(SHAPES):
            turn = index + fmt.bits
            try:
                check(fmt, rows, cols, SCALES[turn % len(SCALES)], index % 2 == 0, ROWS[turn % 4 :: 4])
            except AssertionError as e:
                raise AssertionError(f"{fmt}, {rows} × {cols}, on {_kernels.isa()}: {e}") from e


if __name__ == "__main__":
    torch.set_num_threads(1)
    sweep(FORMATS[:: int(sys.argv[1])])
    print(_kernels.isa())
