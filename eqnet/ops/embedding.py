"""Embeddings on packed tables: of the table, only the rows that are asked for are read."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from eqnet import _kernels
from eqnet.errors import InputError
from eqnet.ops.cuda import cuda_library
from eqnet.ops.library import LIBRARY
from eqnet.ops.panels import PLANES, SCALE_TYPES, address

LIBRARY.define(
    "packed_embedding(Tensor indices, Tensor codes, Tensor scale, Tensor? zero_point, int[] shape) -> Tensor"
)


def packed_embedding(
    indices: Tensor, codes: Tensor, scale: Tensor, zero_point: Tensor | None, shape: Sequence[int]
) -> Tensor:
    """Rows of a packed table, dequantized.

    Args:
        indices: integers of any shape.
        codes: as ``PackedTensor`` has them.
        scale: [rows or 1, groups], the same.
        zero_point: the same; None if symmetric.
        shape: rows, columns, columns that share a scale (all, if all do), and bits.

    Returns:
        float32 [..., columns].

    Raises:
        InputError: a part does not fit the others.
        IndexError: an index is none of a row. On GPUs, which nobody waits for, its row is NaN instead.
    """
    result: Tensor = torch.ops.eqnet.packed_embedding(indices, codes, scale, zero_point, list(shape))
    return result


def _elements(planes: Tensor, count: int, bits: int, which: Tensor) -> Tensor:
    """The unsigned codes at the places ``which``, int64 like it, among ``count``."""
    codes = torch.zeros_like(which)
    start = done = 0
    for width in (w for w in PLANES if bits & w):
        byte = planes[start + (which * width).div(8, rounding_mode="floor")].long()
        codes |= ((byte >> which * width % 8) & ((1 << width) - 1)) << done
        start, done = start - (-count * width // 8), done + width
    return codes


def _output(indices: Tensor, codes: Tensor, scale: Tensor, zero_point: Tensor | None, shape: Sequence[int]) -> Tensor:
    """Memory for the result, once all parts fit."""
    rows, cols, size, bits = shape
    counts = {"codes": rows * cols, "zero point": scale.numel()}
    if indices.dtype not in (torch.int64, torch.int32):
        raise InputError(f"packed_embedding: expected indices in int64 or int32, got {indices.dtype}")
    if not (rows >= 0 and 1 <= size <= cols and 2 <= bits <= 8):
        raise InputError(f"packed_embedding: {list(shape)} are no rows, columns, group size and bits of a table")
    if scale.dtype not in SCALE_TYPES or scale.ndim != 2 or scale.shape[1] != -(-cols // size):
        raise InputError(f"packed_embedding: {scale.dtype} of {tuple(scale.shape)} are no scales of {list(shape)}")
    for name, part in (("codes", codes), ("zero point", zero_point)):
        expected = sum(-(-counts[name] * width // 8) for width in PLANES if bits & width)
        if part is not None and (part.dtype != torch.uint8 or part.shape != (expected,)):
            raise InputError(
                f"packed_embedding: expected {name} in uint8 of shape ({expected},), got {part.dtype} of "
                f"{tuple(part.shape)}"
            )
    if scale.shape[0] not in (1, rows):
        raise InputError(f"packed_embedding: {scale.shape[0]} rows of scales for {rows} rows")
    return scale.new_empty(*indices.shape, cols, dtype=torch.float32)


def _embedding_reference(
    indices: Tensor, codes: Tensor, scale: Tensor, zero_point: Tensor | None, shape: Sequence[int]
) -> Tensor:
    out = _output(indices, codes, scale, zero_point, shape)
    rows, cols, size, bits = shape
    row, column = indices.long()[..., None], torch.arange(cols, device=indices.device)
    group = column.div(size, rounding_mode="floor")
    which = group + (row * scale.shape[1] if scale.shape[0] > 1 else torch.zeros_like(row))
    zero = 1 << (bits - 1) if zero_point is None else _elements(zero_point, scale.numel(), bits, which).float()
    unsigned = _elements(codes, rows * cols, bits, row * cols + column).float()
    return out.copy_((unsigned - zero) * scale.reshape(-1)[which].float())


def _embedding_cpu(
    indices: Tensor, codes: Tensor, scale: Tensor, zero_point: Tensor | None, shape: Sequence[int]
) -> Tensor:
    out = _output(indices, codes, scale, zero_point, shape)
    rows, cols, size, bits = shape
    which = indices.long().contiguous()
    scale, codes = scale.contiguous(), codes.contiguous()
    zero_point = zero_point.contiguous() if zero_point is not None else None
    inside = _kernels.gather_rows(
        rows,
        cols,
        size,
        bits,
        codes.data_ptr(),
        scale.data_ptr(),
        SCALE_TYPES[scale.dtype],
        scale.shape[0] > 1,
        address(zero_point),
        which.data_ptr(),
        which.numel(),
        out.data_ptr(),
        torch.get_num_threads(),
    )
    if not inside:
        raise IndexError(f"packed_embedding: indices from {which.min()} to {which.max()} into a table of {rows} rows")
    return out


def _embedding_cuda(
    indices: Tensor, codes: Tensor, scale: Tensor, zero_point: Tensor | None, shape: Sequence[int]
) -> Tensor:
    library = cuda_library()
    if library is None:
        return _embedding_reference(indices, codes, scale, zero_point, shape)
    out = _output(indices, codes, scale, zero_point, shape)
    return library.embedding(indices, codes, scale, zero_point, shape, out)


LIBRARY.impl("packed_embedding", _embedding_reference, "CompositeExplicitAutograd")
LIBRARY.impl("packed_embedding", _embedding_cpu, "CPU")
LIBRARY.impl("packed_embedding", _embedding_cuda, "CUDA")
torch.library.register_fake("eqnet::packed_embedding", _output)
