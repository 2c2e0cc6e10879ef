"""Packed weights in the order in which the kernels for GPUs read them; ``cpp/include/eqnet/tiles.h`` draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from eqnet.errors import InputError
from eqnet.formats import Format, Granularity
from eqnet.ops.panels import PLANES, SCALE_TYPES, Shape
from eqnet.packed.planes import pack, unpack

if TYPE_CHECKING:
    from eqnet.packed.tensor import PackedTensor

TILE, STEP, STEPS, LANES = 64, 16, 4, 32
"""Output channels, and columns, of a tile; columns of a step; steps of a tile; lanes of a warp."""

_LINE = 16 * LANES
"""Bytes of a line."""

_PAIRS = 64
"""Of codes, that each lane has of a tile."""


_AT_ONCE = 1 << 24
"""Codes that are reordered together, which takes some bytes for each."""


class Tiles(NamedTuple):
    """A packed weight, prepared for the kernels of GPUs; its parts are what the ops take, in their order.

    Attributes:
        codes: uint8, in lines of 512 bytes.
        scales: [row tiles · groups · 64], as stored.
        zeros: unsigned zero points like ``scales``, uint8; None if symmetric.
        shape: rows, columns, columns that share a scale, and bits.
    """

    codes: Tensor
    scales: Tensor
    zeros: Tensor | None
    shape: Shape

    @classmethod
    def of(cls, weight: PackedTensor) -> Tiles:
        """Reorders ``weight`` by plain torch, on the device where it lies.

        Raises:
            InputError: the weight has no columns.
        """
        rows, cols, fmt = weight.rows, weight.cols, weight.format
        if cols == 0:
            raise InputError(f"tiles are made of a weight with columns; this one is [{rows}, {cols}]")
        shape = rows, cols, min(fmt.group_size or cols, cols), fmt.bits
        unsigned = unpack(weight.codes, rows * cols, fmt.bits).view(rows, cols)
        some = TILE * max(1, _AT_ONCE // (TILE * cols))
        codes = torch.cat([_codes(_padded(part, shape), fmt.bits) for part in torch.split(unsigned, some)])
        scale = weight.scale.expand(rows, -1) if fmt.granularity is Granularity.TENSOR else weight.scale
        zeros = None
        if not fmt.symmetric:
            zeros = _by_lane(weight.zero_points().to(torch.uint8).expand(rows, -1), shape)
        return cls(codes, _by_lane(scale, shape), zeros, shape)

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(part.nbytes for part in (self.codes, self.scales, self.zeros) if part is not None)

    def stored(self, fmt: Format) -> PackedTensor:
        """What ``of`` was given, bit for bit, if ``fmt`` is its format."""
        from eqnet.packed.tensor import PackedTensor

        rows, cols, *_ = self.shape
        whole = fmt.granularity is Granularity.TENSOR
        scale, zeros = self._by_row(self.scales), None if self.zeros is None else self._by_row(self.zeros)
        return PackedTensor(
            fmt,
            rows,
            cols,
            pack(self.unsigned(), fmt.bits),
            (scale[:1] if whole else scale).contiguous(),
            None if zeros is None else pack(zeros[:1] if whole else zeros, fmt.bits),
        )

    def unsigned(self) -> Tensor:
        """The codes as they are stored, uint8 [rows, cols], by plain torch on any device."""
        rows, cols, size, bits = self.shape
        row_tiles, col_tiles, group_steps, _ = counts(self.shape)
        lines = self.codes.view(row_tiles * col_tiles, bits, LANES, 4, 4)  # [tile, line, lane, word, byte]
        pairs = torch.zeros(len(lines), LANES, _PAIRS, 2, dtype=torch.uint8, device=lines.device)
        line = done = 0
        for width in (w for w in PLANES if bits & w):
            # [tile, lane, word, half, byte] → fields, from the low bits up
            halves = lines[:, line : line + width].permute(0, 2, 1, 3, 4).reshape(len(lines), LANES, 4 * width, 2, 2, 1)
            shifts = torch.arange(0, 8, width, dtype=torch.uint8, device=lines.device)
            fields = (halves >> shifts) & ((1 << width) - 1)  # [tile, lane, word, half, byte, field]
            pairs |= fields.flatten(4).transpose(3, 4).reshape(pairs.shape) << done
            line, done = line + width, done + width
        # [row tile, column tile, g, t, step, m, eight, h, second] → [m, h, g] by [step, eight, t, second]
        split = pairs.view(row_tiles, col_tiles, 8, 4, STEPS, 4, 2, 2, 2)
        padded = split.permute(0, 5, 7, 2, 1, 4, 6, 3, 8).reshape(row_tiles * TILE, col_tiles * TILE)
        if size < cols:
            groups, group = -(-cols // size), group_steps * STEP
            padded = padded[:, : groups * group].reshape(len(padded), groups, group)[..., :size].flatten(1)
        return padded[:rows, :cols].contiguous()

    def dequantize(self) -> Tensor:
        """``(code - zero point) · scale``, float32 [rows, cols], by kernels where there are any."""
        if self.codes.device.type == "cuda":
            result: Tensor = torch.ops.eqnet.dequantize_prepared(*self)
            return result
        return self.dequantized()

    def dequantized(self) -> Tensor:
        """The same by plain torch on any device."""
        _, cols, size, bits = self.shape
        zeros = 1 << (bits - 1) if self.zeros is None else self._by_row(self.zeros).float()
        scales = self._by_row(self.scales).float()
        group = torch.arange(cols, device=self.codes.device).div(size, rounding_mode="floor")
        return (self.unsigned().float() - (zeros if isinstance(zeros, int) else zeros[:, group])) * scales[:, group]

    def check(self, op: str) -> None:
        """Raises InputError, in the name of ``op``, unless the parts are as ``of`` makes them for this shape."""
        codes, scales, zeros, shape = self
        rows, cols, size, bits = shape
        if rows >= 0 and 1 <= size <= cols and 2 <= bits <= 8:
            row_tiles, col_tiles, _, groups = counts(shape)
            sizes = {"codes": row_tiles * col_tiles * bits * _LINE, "scales": row_tiles * groups * TILE}
            fits = codes.dtype == torch.uint8 and codes.shape == (sizes["codes"],) and codes.is_contiguous()
            fits &= scales.dtype in SCALE_TYPES and scales.shape == (sizes["scales"],) and scales.is_contiguous()
            if zeros is not None:
                fits &= zeros.dtype == torch.uint8 and zeros.shape == scales.shape and zeros.is_contiguous()
            if fits and all(part is None or part.device == codes.device for part in (scales, zeros)):
                return
        parts = ", ".join(f"{part.dtype} {list(part.shape)}" for part in self[:3] if part is not None)
        raise InputError(f"{op}: {parts} are no tiles of a weight of shape {list(shape)}; make them by Tiles.of")

    def _by_row(self, values: Tensor) -> Tensor:
        """[row tiles · groups · 64] → [rows, groups], without the groups of the padding."""
        rows, cols, size, _ = self.shape
        row_tiles, _, _, groups = counts(self.shape)
        split = values.view(row_tiles, groups, 8, 4, 2)  # g, m, h
        return split.permute(0, 3, 4, 2, 1).reshape(row_tiles * TILE, groups)[:rows, : -(-cols // size)]


def counts(shape: Shape) -> tuple[int, int, int, int]:
    """Tiles along the rows and along the columns, steps of a group, and groups that have scales."""
    rows, cols, size, _ = shape
    row_tiles, group_steps, groups = -(-rows // TILE), -(-size // STEP), -(-cols // size)
    col_tiles = -(-groups * group_steps // STEPS)
    if size >= cols:
        group_steps = col_tiles * STEPS
    return row_tiles, col_tiles, group_steps, -(-col_tiles * STEPS // group_steps)


def _padded(codes: Tensor, shape: Shape) -> Tensor:
    """Some rows, [n, cols] → [64 · n's tiles, 64 · column tiles], each group from a step on."""
    _, cols, size, _ = shape
    _, col_tiles, group_steps, _ = counts(shape)
    if size < cols:
        groups = F.pad(codes, (0, -cols % size)).view(len(codes), -(-cols // size), size)
        codes = F.pad(groups, (0, group_steps * STEP - size)).flatten(1)
    return F.pad(codes, (0, col_tiles * TILE - codes.shape[1], 0, -len(codes) % TILE))


def _codes(padded: Tensor, bits: int) -> Tensor:
    """The lines of the tiles of uint8 [64 · row tiles, 64 · column tiles]."""
    row_tiles, col_tiles = len(padded) // TILE, padded.shape[1] // TILE
    # [row tile, m, h, g] by [column tile, step, eight, t, second] → by lane and pair
    split = padded.view(row_tiles, 4, 2, 8, col_tiles, STEPS, 2, 4, 2)
    pairs = split.permute(0, 4, 3, 7, 5, 1, 6, 2, 8).reshape(row_tiles * col_tiles, LANES, _PAIRS, 2)
    planes = []
    done = 0
    for width in (w for w in PLANES if bits & w):
        fields = pairs >> done & ((1 << width) - 1)
        # A word: a lower half of 16 / width first columns, an upper half of as many second ones; little-endian bytes.
        by_byte = fields.view(len(pairs), LANES, 4 * width, 2, 8 // width, 2).permute(0, 1, 2, 5, 3, 4)
        shifts = torch.arange(0, 8, width, dtype=torch.uint8, device=padded.device)
        words = (by_byte << shifts).sum(-1, dtype=torch.uint8)  # [tile, lane, word, half, byte]
        planes.append(words.reshape(len(pairs), LANES, width, 16).transpose(1, 2))
        done += width
    return torch.cat(planes, 1).reshape(-1)


def _by_lane(values: Tensor, shape: Shape) -> Tensor:
    """[rows, groups] → [row tiles · groups · 64], the channels of a tile as lanes want them; 0 where there are none."""
    row_tiles, _, _, groups = counts(shape)
    padded = F.pad(values, (0, groups - values.shape[1], 0, row_tiles * TILE - len(values)))
    return padded.view(row_tiles, 4, 2, 8, groups).permute(0, 4, 3, 1, 2).reshape(-1)
