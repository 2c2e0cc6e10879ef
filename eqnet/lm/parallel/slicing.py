"""Parts of a packed weight, cut out of its bytes; no code is unpacked.

A plane of w bits can be cut where w · codes is a multiple of 8: at every row if a row is, and at columns that are. With
rows of 6 codes of 4 bits, the columns before and after the bar are bytes of their own, in every row:

    plane of 4    b a  d c | f e    h g  j i | l k    …
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from eqnet.errors import InputError
from eqnet.formats import Format, Granularity
from eqnet.packed.planes import PLANES, pack, plane_bytes
from eqnet.packed.tensor import PackedTensor

Span = tuple[int, int]
"""From the first one on, up to the second one."""


def rows_of(weight: PackedTensor, spans: Sequence[Span]) -> PackedTensor:
    """The rows of ``spans``, one after the other, in memory of their own.

    Raises:
        InputError: a span begins or ends within a byte.
    """
    codes = _cut(weight.codes, (weight.rows, weight.cols), weight.format.bits, spans, (0, weight.cols))
    if codes is None:
        raise InputError(
            f"rows {', '.join(f'{start} to {stop}' for start, stop in spans)} of {weight.rows}, each of {weight.cols} "
            f"codes in {weight.format}, do not begin and end at whole bytes"
        )
    rows = sum(stop - start for start, stop in spans)
    if weight.format.granularity is Granularity.TENSOR:
        return PackedTensor(weight.format, rows, weight.cols, codes, weight.scale.clone(), _cloned(weight.zero_point))
    scale = torch.cat([weight.scale[start:stop] for start, stop in spans])
    zero_point = _zero_points(weight, spans, (0, weight.scale.shape[1]))
    return PackedTensor(weight.format, rows, weight.cols, codes, scale, zero_point)


def columns_of(weight: PackedTensor, part: int, count: int) -> PackedTensor:
    """Part ``part`` of the columns, of ``count`` equal ones, in memory of its own.

    Where the border of a part cuts a group, the part's groups are as long as the greatest common divisor of both, and
    the scales are repeated: codes and what they stand for stay.

    Raises:
        InputError: the columns cannot be split so, or a part begins or ends within a byte.
    """
    size, left = divmod(weight.cols, count)
    columns = part * size, (part + 1) * size
    whole: list[Span] = [(0, weight.rows)]
    codes = _cut(weight.codes, (weight.rows, weight.cols), weight.format.bits, whole, columns) if not left else None
    if codes is None:
        raise InputError(
            f"{weight.cols} columns in {weight.format} cannot be split into {count} equal parts at whole bytes"
        )
    group = min(weight.format.group_size or weight.cols, weight.cols)
    if weight.format.granularity is not Granularity.GROUP:
        return PackedTensor(weight.format, weight.rows, size, codes, weight.scale.clone(), _cloned(weight.zero_point))
    if size % group == 0:
        groups = columns[0] // group, columns[1] // group
        scale = weight.scale[:, groups[0] : groups[1]].contiguous()
        scale = scale.clone() if scale.data_ptr() == weight.scale.data_ptr() else scale
        return PackedTensor(weight.format, weight.rows, size, codes, scale, _zero_points(weight, whole, groups))
    fine = math.gcd(group, size)
    groups = columns[0] // fine, columns[1] // fine

    def cut(numbers: Tensor) -> Tensor:
        return numbers.repeat_interleave(group // fine, 1)[:, groups[0] : groups[1]].contiguous()

    fmt = Format(weight.format.bits, weight.format.symmetric, Granularity.GROUP, fine)
    zero_point = None if weight.zero_point is None else pack(cut(weight.zero_points()), fmt.bits)
    return PackedTensor(fmt, weight.rows, size, codes, cut(weight.scale), zero_point)


def can_split_columns(fmt: Format, cols: int, count: int) -> bool:
    """Whether ``columns_of`` can make ``count`` parts of ``cols`` columns."""
    return cols % count == 0 and all(cols // count * width % 8 == 0 for width in PLANES if fmt.bits & width)


def can_split_rows(fmt: Format, cols: int, borders: Sequence[int]) -> bool:
    """Whether ``rows_of`` can cut at ``borders``, rows that are not the last."""
    return all(border * cols * width % 8 == 0 for border in borders for width in PLANES if fmt.bits & width)


def _zero_points(weight: PackedTensor, spans: Sequence[Span], groups: Span) -> Tensor | None:
    """Those of some rows and groups; where they do not end at whole bytes, these few are packed anew."""
    if weight.zero_point is None:
        return None
    shape = weight.scale.shape[0], weight.scale.shape[1]
    found = _cut(weight.zero_point, shape, weight.format.bits, spans, groups)
    if found is not None:
        return found
    parts = [weight.zero_points()[start:stop, groups[0] : groups[1]] for start, stop in spans]
    return pack(torch.cat(parts), weight.format.bits)


def _cut(planes: Tensor, shape: Span, bits: int, spans: Sequence[Span], columns: Span) -> Tensor | None:
    """The planes of some rows and columns; None if a border lies within a byte."""
    rows, cols = shape
    parts, begin = [], 0
    for width in (w for w in PLANES if bits & w):
        plane = planes[begin : begin + plane_bytes(rows * cols, width)]
        begin += len(plane)
        if columns == (0, cols):
            borders = {border * cols * width for span in spans for border in span if border < rows}
            ends_early = any(stop == rows and rows * cols * width % 8 for _, stop in spans[:-1])
            if any(border % 8 for border in borders) or ends_early:
                return None
            parts += [plane[start * cols * width // 8 : -(-stop * cols * width // 8)] for start, stop in spans]
            continue
        if any(border * width % 8 for border in (cols, *columns)):
            return None
        table = plane.view(rows, cols * width // 8)[:, columns[0] * width // 8 : columns[1] * width // 8]
        parts += [table[start:stop].reshape(-1) for start, stop in spans]
    return torch.cat(parts)


def _cloned(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clone()
