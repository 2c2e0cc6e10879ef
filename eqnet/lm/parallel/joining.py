"""Parts of a packed weight put together again, as ``slicing`` cuts them; no code is unpacked.

Parts that lie side by side have scales of their own, row by row: joined, each is a group of the columns.

    part 0    a a a a · s        part 1    b b b b · t        joined    a a a a b b b b · s t, in groups of 4
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eqnet.errors import InputError
from eqnet.formats import Format, Granularity
from eqnet.packed.planes import PLANES, pack, plane_bytes
from eqnet.packed.tensor import PackedTensor


def rows_joined(parts: Sequence[PackedTensor]) -> PackedTensor:
    """The rows of all parts, one part after the other.

    Raises:
        InputError: the parts differ in format or columns, share one scale, or a part ends within a byte.
    """
    first = parts[0]
    if any((part.format, part.cols) != (first.format, first.cols) for part in parts):
        raise InputError(f"rows cannot be joined: parts are {_listed(parts)}")
    if first.format.granularity is Granularity.TENSOR and len(parts) > 1:
        raise InputError(f"rows in {first.format} cannot be joined: each part has one scale for all of its rows")
    planes: list[Tensor] = []
    for width in _widths(first):
        cut = [_plane(part, width) for part in parts]
        if any(part.rows * part.cols * width % 8 for part in parts[:-1]):
            raise InputError(f"rows cannot be joined: parts of {_listed(parts)} do not end at whole bytes")
        planes += cut
    rows, scale = sum(part.rows for part in parts), torch.cat([part.scale for part in parts])
    zero_point = _zero_points(parts, 0)
    return PackedTensor(first.format, rows, first.cols, torch.cat(planes), scale, zero_point)


def columns_joined(parts: Sequence[PackedTensor]) -> PackedTensor:
    """The columns of all parts, one part after the other, in the largest groups that say the same.

    Raises:
        InputError: the parts differ in shape or type, a part has a last, shorter group, or a row ends within a byte.
    """
    first = parts[0]
    if any((part.format, part.rows, part.cols) != (first.format, first.rows, first.cols) for part in parts):
        raise InputError(f"columns cannot be joined: parts are {_listed(parts)}")
    size = min(first.format.group_size or first.cols, first.cols)
    if size and first.cols % size:
        raise InputError(f"columns in {first.format} cannot be joined: {first.cols} columns end with a shorter group")
    planes: list[Tensor] = []
    for width in _widths(first):
        if first.cols * width % 8:
            raise InputError(f"columns cannot be joined: rows of {_listed(parts)} do not end at whole bytes")
        tables = [_plane(part, width).view(part.rows, -1) for part in parts]
        planes.append(torch.cat(tables, 1).reshape(-1))
    scale = torch.cat([part.scale.expand(part.rows, -1) for part in parts], 1)
    fmt = Format(first.format.bits, first.format.symmetric, Granularity.GROUP, max(size, 1))
    cols = sum(part.cols for part in parts)
    return coarsest(PackedTensor(fmt, first.rows, cols, torch.cat(planes), scale, _zero_points(parts, 1)))


def coarsest(weight: PackedTensor) -> PackedTensor:
    """The same weight in the largest groups that hold one scale each, by rows where one is enough.

    A weight with zero points stays as it is, unless one group is a whole row.
    """
    fmt, size = weight.format, weight.format.group_size
    if fmt.granularity is not Granularity.GROUP:
        return weight
    groups = weight.scale.shape[1]
    merged = 1
    if weight.zero_point is None and weight.cols % size == 0:
        merged = next(n for n in range(groups, 0, -1) if groups % n == 0 and _same(weight.scale, n)) if groups else 1
    scale = weight.scale[:, ::merged].contiguous()
    if scale.shape[1] == 1:
        whole = Format(fmt.bits, fmt.symmetric, Granularity.CHANNEL)
        return PackedTensor(whole, weight.rows, weight.cols, weight.codes, scale, weight.zero_point)
    if merged == 1:
        return weight
    coarse = Format(fmt.bits, fmt.symmetric, Granularity.GROUP, size * merged)
    return PackedTensor(coarse, weight.rows, weight.cols, weight.codes, scale, None)


def _same(scale: Tensor, count: int) -> bool:
    """Whether each run of ``count`` scales of a row is one scale."""
    runs = scale.reshape(len(scale), scale.shape[1] // count, count)
    return bool((runs == runs[:, :, :1]).all())


def _widths(weight: PackedTensor) -> list[int]:
    return [width for width in PLANES if weight.format.bits & width]


def _plane(weight: PackedTensor, width: int) -> Tensor:
    count = weight.rows * weight.cols
    begin = sum(plane_bytes(count, wider) for wider in _widths(weight) if wider > width)
    return weight.codes[begin : begin + plane_bytes(count, width)]


def _zero_points(parts: Sequence[PackedTensor], axis: int) -> Tensor | None:
    if parts[0].zero_point is None:
        return None
    found = [part.zero_points().expand(part.rows, -1) if axis else part.zero_points() for part in parts]
    return pack(torch.cat(found, axis), parts[0].format.bits)


def _listed(parts: Sequence[PackedTensor]) -> str:
    return ", ".join(f"{part.rows} × {part.cols} in {part.format}" for part in parts)
