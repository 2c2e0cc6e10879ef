"""Packed weights in the order in which the kernels read them; ``cpp/include/eqnet/panels.h`` draws it."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from eqnet import _kernels
from eqnet.errors import InputError
from eqnet.formats import Granularity
from eqnet.ops.library import LIBRARY

if TYPE_CHECKING:
    from eqnet.packed.tensor import PackedTensor

SCALE_TYPES = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2}
"""The numbers by which the kernels know the types of scales."""

PANEL, BLOCK, STEP, LANES = 32, 32, 4, 16
"""Output channels of a panel; columns of a block; columns of a step; output channels of half a panel."""

_HUGE_PAGES = 1 << 22
"""Bytes from which memory in large pages is asked for: reading it in small ones costs a tenth of the bandwidth."""

Shape = tuple[int, int, int, int]
"""Rows, columns, columns that share a scale, bits."""


@dataclass(frozen=True, eq=False)
class Panels:
    """A packed weight, prepared for the kernels.

    Attributes:
        shape: rows, columns, columns that share a scale, and bits.
        codes: uint8, in lines of 64 bytes.
        scales: [panels, groups, 32], as stored.
        zeros: unsigned zero points like ``scales``, uint8; None if symmetric.
    """

    shape: Shape
    codes: Tensor
    scales: Tensor
    zeros: Tensor | None

    @classmethod
    def of(cls, weight: PackedTensor) -> Panels:
        """Reorders ``weight``, which lies in the memory of the CPU, on ``torch.get_num_threads()`` threads.

        Raises:
            InputError: the weight has no columns, or is on another device.
        """
        fmt, rows, cols = weight.format, weight.rows, weight.cols
        if cols == 0 or weight.codes.device.type != "cpu":
            raise InputError(
                f"panels are made of a weight with columns in the memory of the CPU; this one is [{rows}, {cols}] on "
                f"{weight.codes.device}"
            )
        size = min(fmt.group_size or cols, cols)
        shape = rows, cols, size, fmt.bits
        code_bytes, scale_count = _kernels.panel_sizes(*shape)
        codes = _memory(code_bytes)
        scales = torch.empty(scale_count, dtype=weight.scale.dtype)
        zeros = None if fmt.symmetric else torch.empty(scale_count, dtype=torch.uint8)
        parts = weight.codes, weight.scale, weight.zero_point
        stored = [part.contiguous() if part is not None else None for part in parts]
        _kernels.fill_panels(
            *shape,
            address(stored[0]),
            address(stored[1]),
            weight.scale.element_size(),
            fmt.granularity is not Granularity.TENSOR,
            address(stored[2]),
            codes.data_ptr(),
            scales.data_ptr(),
            address(zeros),
            torch.get_num_threads(),
        )
        return cls(shape, codes, scales, zeros)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(part.nbytes for part in (self.codes, self.scales, self.zeros) if part is not None)

    def dequantize(self) -> Tensor:
        """``(code - zero point) · scale``, float32 [rows, cols]."""
        result: Tensor = torch.ops.eqnet.dequantize_panels(self.codes, self.scales, self.zeros, list(self.shape))
        return result


def address(tensor: Tensor | None) -> int:
    """Where a tensor begins; 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


def _memory(size: int) -> Tensor:
    """uint8 [size], aligned to 64 bytes."""
    if size < _HUGE_PAGES or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty(size, dtype=torch.uint8)
    # Private, as large pages of shared memory are a setting of their own, mostly off.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)


LIBRARY.define("dequantize_panels(Tensor codes, Tensor scales, Tensor? zeros, int[] shape) -> Tensor")


def dequantize_reference(codes: Tensor, scales: Tensor, zeros: Tensor | None, shape: list[int]) -> Tensor:
    """The weight by plain torch on any device: lines to codes, codes to columns."""
    rows, cols, size, bits = shape
    halves = size <= BLOCK // 2 < cols and size < cols
    lines = codes.view(-1, PANEL // LANES, bits, LANES, STEP)  # [panel · block, half, line, channel, column of a step]
    unpacked = torch.zeros(*lines.shape[:2], BLOCK // STEP, LANES, STEP, dtype=torch.uint8, device=codes.device)
    done = line = 0
    for width in (w for w in (8, 4, 2, 1) if bits & w):
        for step in range(8):
            part = lines[:, :, line + step % width] >> (step // width * width) & ((1 << width) - 1)
            unpacked[:, :, step] |= part << done
        done, line = done + width, line + width
    panels = -(-rows // PANEL)
    # [panel, block, half, step, channel, column] → [panel · half · channel, block · step · column]
    matrix = unpacked.view(panels, -1, 2, BLOCK // STEP, LANES, STEP).permute(0, 2, 4, 1, 3, 5).reshape(panels * PANEL, -1)
    padded = BLOCK // 2 if halves else -(-size // BLOCK) * BLOCK
    kept = scales.view(panels, -1, PANEL).transpose(1, 2).reshape(panels * PANEL, -1).float()
    zero = 1 << (bits - 1) if zeros is None else zeros.view(panels, -1, PANEL).transpose(1, 2).reshape(kept.shape).float()
    groups = matrix.view(panels * PANEL, -1, padded)[:rows, :, :size].float()
    weights = (groups - (zero if zeros is None else zero[:rows, :, None])) * kept[:rows, :, None]  # type: ignore[index]
    return weights.reshape(rows, -1)[:, :cols].contiguous()


def _dequantize_cpu(codes: Tensor, scales: Tensor, zeros: Tensor | None, shape: list[int]) -> Tensor:
    rows, cols, size, bits = shape
    out = torch.empty(rows, cols)
    _kernels.dequantize_panels(
        rows,
        cols,
        size,
        bits,
        codes.data_ptr(),
        scales.data_ptr(),
        SCALE_TYPES[scales.dtype],
        address(zeros),
        out.data_ptr(),
        torch.get_num_threads(),
    )
    return out


def _dequantize_shape(codes: Tensor, scales: Tensor, zeros: Tensor | None, shape: list[int]) -> Tensor:
    return scales.new_empty(shape[:2], dtype=torch.float32)


LIBRARY.impl("dequantize_panels", dequantize_reference, "CompositeExplicitAutograd")
LIBRARY.impl("dequantize_panels", _dequantize_cpu, "CPU")
torch.library.register_fake("eqnet::dequantize_panels", _dequantize_shape)
