"""Packed weights in the order in which the kernels read them; ``cpp/include/eqnet/panels.h`` draws it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from eqnet import _kernels, native
from eqnet.errors import InputError
from eqnet.ops.library import LIBRARY
from eqnet.packed.layout import PLANES as PLANES
from eqnet.packed.panels import PANEL, Bytes, Matrix, MatrixPanels, Outline, lines, sizes
from eqnet.packed.panels import Shape as Shape

if TYPE_CHECKING:
    from eqnet.packed.tensor import PackedTensor

SCALE_TYPES: dict[torch.dtype, int] = {getattr(torch, name): number for name, number in native.SCALE_TYPES.items()}
"""The numbers by which the kernels know the types of scales."""

BLOCK, STEP, LANES = 32, 4, 16
"""Columns of a block; columns of a step; output channels of half a panel."""


class Panels(NamedTuple):
    """A packed weight, prepared for the kernels; its parts are what the ops take, in their order.

    Attributes:
        codes: uint8, in lines of 64 bytes.
        scales: [panels · groups · 32], as stored.
        zeros: unsigned zero points like ``scales``, uint8; None if symmetric.
        shape: rows, columns, columns that share a scale, and bits.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None
    shape: Shape

    @classmethod
    def of(cls, weight: PackedTensor, memory: Tensor | None = None) -> Panels:
        """Reorders ``weight``, which lies in the memory of the CPU, on ``torch.get_num_threads()`` threads.

        Args:
            weight: as it is stored.
            memory: where to, uint8 [room(weight)], from the start of a line on; new if None.

        Raises:
            InputError: the weight has no columns, or is on another device.
        """
        outline = _outline(weight)
        zero_point = None if weight.zero_point is None else as_bytes(weight.zero_point)
        matrix = Matrix(
            outline.format,
            outline.rows,
            outline.cols,
            outline.scale_type,
            as_bytes(weight.codes),
            as_bytes(weight.scale),
            zero_point,
        )
        room = lines(outline.room) if memory is None else memory.numpy()
        made = MatrixPanels.of(matrix, room, torch.get_num_threads())
        zeros = None if made.zeros is None else torch.from_numpy(made.zeros)
        return cls(
            torch.from_numpy(made.codes), torch.from_numpy(made.scales).view(weight.scale.dtype), zeros, made.shape
        )

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(part.nbytes for part in (self.codes, self.scales, self.zeros) if part is not None)

    def dequantize(self) -> Tensor:
        """``(code - zero point) · scale``, float32 [rows, cols]."""
        result: Tensor = torch.ops.eqnet.dequantize_prepared(*self)
        return result

    def check(self, op: str) -> None:
        """Raises InputError, in the name of ``op``, unless the parts are as ``of`` makes them for this shape."""
        codes, scales, zeros, shape = self
        if codes.dtype == torch.uint8 and scales.dtype in SCALE_TYPES and (zeros is None or zeros.dtype == torch.uint8):
            found = codes.numel(), scales.numel(), scales.numel() if zeros is None else zeros.numel()
            dense = codes.is_contiguous() and scales.is_contiguous() and (zeros is None or zeros.is_contiguous())
            if dense and _possible(*shape) and found == (*sizes(*shape), scales.numel()):
                return
        parts = ", ".join(f"{part.dtype} {list(part.shape)}" for part in self[:3] if part is not None)
        raise InputError(f"{op}: {parts} are no panels of a weight of shape {list(shape)}; make them by Panels.of")


def address(tensor: Tensor | None) -> int:
    """Where a tensor begins; 0 for None."""
    return 0 if tensor is None else tensor.data_ptr()


def _possible(rows: int, cols: int, size: int, bits: int) -> bool:
    return rows >= 0 and 1 <= size <= cols and 2 <= bits <= 8


def room(weight: PackedTensor) -> int:
    """Bytes of memory that ``Panels.of`` fills, whole lines; raises InputError as that does."""
    return _outline(weight).room


def _outline(weight: PackedTensor) -> Outline:
    if weight.cols == 0 or weight.codes.device.type != "cpu":
        raise InputError(
            f"panels are made of a weight with columns in the memory of the CPU; this one is "
            f"[{weight.rows}, {weight.cols}] on {weight.codes.device}"
        )
    return Outline(weight.format, weight.rows, weight.cols, str(weight.scale.dtype).removeprefix("torch."))


def as_bytes(part: Tensor) -> Bytes:
    """What a tensor in the memory of the CPU holds, row by row, uint8 of one dimension; a view where that can be."""
    data: Bytes = part.detach().contiguous().view(-1).view(torch.uint8).numpy()
    return data


LIBRARY.define("dequantize_prepared(Tensor codes, Tensor scales, Tensor? zeros, int[] shape) -> Tensor")


def dequantize_reference(codes: Tensor, scales: Tensor, zeros: Tensor | None, shape: Sequence[int]) -> Tensor:
    """The weight by plain torch on any device: lines to codes, codes to columns."""
    rows, cols, size, bits = shape
    if not rows:
        return torch.zeros(rows, cols, device=codes.device)
    panels, steps = -(-rows // PANEL), BLOCK // STEP
    lines = codes.view(-1, bits, PANEL // LANES, LANES, STEP)  # [panel · block, line, half, channel, column of a step]
    unpacked = torch.zeros(len(lines), PANEL // LANES, steps, LANES, STEP, dtype=torch.uint8, device=codes.device)
    done = line = 0
    for width in (w for w in PLANES if bits & w):
        for step in range(steps):
            part = lines[:, line + step % width] >> (step // width * width) & ((1 << width) - 1)
            unpacked[:, :, step] |= part << done
        done, line = done + width, line + width
    # [panel, block, half, step, channel, column] → [row, padded column]
    by_row = unpacked.view(panels, -1, PANEL // LANES, steps, LANES, STEP).permute(0, 2, 4, 1, 3, 5)
    padded = BLOCK // 2 if size <= BLOCK // 2 and size < cols else -(-size // BLOCK) * BLOCK
    groups = by_row.reshape(panels * PANEL, -1, padded)[:rows, :, :size].float()
    zero = 1 << (bits - 1) if zeros is None else _by_row(zeros, rows, panels)
    return ((groups - zero) * _by_row(scales, rows, panels)).reshape(rows, -1)[:, :cols].contiguous()


def _by_row(values: Tensor, rows: int, panels: int) -> Tensor:
    """[panels · groups · 32] → float32 [rows, groups, 1]."""
    return values.view(panels, -1, PANEL).transpose(1, 2).reshape(panels * PANEL, -1, 1)[:rows].float()


def _dequantize_cpu(codes: Tensor, scales: Tensor, zeros: Tensor | None, shape: Sequence[int]) -> Tensor:
    rows, cols, size, bits = shape
    Panels(codes, scales, zeros, (rows, cols, size, bits)).check("dequantize_panels")
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


def _dequantize_shape(codes: Tensor, scales: Tensor, zeros: Tensor | None, shape: Sequence[int]) -> Tensor:
    return scales.new_empty(*shape[:2], dtype=torch.float32)


LIBRARY.impl("dequantize_prepared", dequantize_reference, "CompositeExplicitAutograd")
LIBRARY.impl("dequantize_prepared", _dequantize_cpu, "CPU")
torch.library.register_fake("eqnet::dequantize_prepared", _dequantize_shape)
