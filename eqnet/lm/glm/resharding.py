"""A checkpoint for another number of processes: parts merged, or split further, or both."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from eqnet.errors import InputError
from eqnet.formats import Format, Granularity
from eqnet.lm.glm.checkpoint import GlmCheckpoint, Part, Sizes, Weight
from eqnet.lm.glm.layout import Split, split_of
from eqnet.lm.parallel.joining import coarsest, columns_joined, rows_joined
from eqnet.lm.parallel.slicing import Span, can_split_columns, columns_of, rows_of
from eqnet.packed.tensor import PackedTensor


def resharded(checkpoint: GlmCheckpoint, degree: int) -> GlmCheckpoint:
    """The same model for ``degree`` processes; each weight is made when it is asked for.

    The parts dequantize to what the whole does, bit for bit.

    Raises:
        InputError: so many processes cannot share the model, which the message says why, or a tensor is none of GLM's.
    """
    check_degree(checkpoint, degree)
    if degree == checkpoint.degree:
        return checkpoint
    splits = {name: split_of(name, checkpoint.sizes) for name in checkpoint.names}
    common = math.gcd(degree, checkpoint.degree)
    merged, pieces = checkpoint.degree // common, degree // common

    def weight(rank: int, name: str, without_codes: bool) -> Weight:
        group, piece = divmod(rank, pieces)
        sources = checkpoint.parts[group * merged : (group + 1) * merged]
        split = splits[name]
        if split is None:
            return sources[0][name]
        found = [part.outline(name) if without_codes else part[name] for part in sources]
        return _piece(_joined(found, split), split, piece, pieces)

    parts = tuple(Part(checkpoint.names, partial(weight, rank)) for rank in range(degree))
    return dataclasses.replace(checkpoint, parts=parts)


def check_degree(checkpoint: GlmCheckpoint, degree: int) -> None:
    """Raises InputError, with the numbers that fit, unless ``degree`` processes can share the model."""
    if degree < 1:
        raise InputError(f"{degree} processes cannot share a model; give 1 or more")
    if checkpoint.degree % degree == 0:
        return  # parts are merged, or stay
    sizes = checkpoint.sizes
    if sizes.heads is None:
        raise InputError(
            f"{checkpoint.folder}: does not tell how many heads it has, and parts are to be of whole heads; "
            "say it (--heads, or read_glm(folder, heads=...)); GLM-130B has 96"
        )
    reason = _obstacle(sizes, degree)
    if reason is not None:
        fitting = [str(count) for count in range(1, sizes.heads + 1) if _obstacle(sizes, count) is None]
        raise InputError(
            f"{checkpoint.folder}: {degree} processes cannot share this model: {reason}; {', '.join(fitting)} can"
        )


def _obstacle(sizes: Sizes, degree: int) -> str | None:
    """Why so many processes cannot share a model; None if they can."""
    counts = {
        "heads": sizes.heads,
        "heads of keys and values": sizes.groups,
        "inner columns": sizes.inner,
        "rows of the vocabulary": sizes.vocabulary,
    }
    for what, count in counts.items():
        if count is not None and count % degree:
            return f"its {count} {what} do not divide among them"
    if sizes.bits is not None:
        fmt = Format(sizes.bits, True, Granularity.CHANNEL)
        for cols in (sizes.attention, sizes.inner):
            if not can_split_columns(fmt, cols, degree):
                return f"{cols} columns of {sizes.bits} bits do not divide among them at whole bytes"
    return None


def _joined(parts: Sequence[Weight], split: Split) -> Weight:
    if len(parts) == 1:
        return parts[0]
    if not split.by_rows:
        if all(isinstance(part, PackedTensor) for part in parts):
            return columns_joined(cast(list[PackedTensor], parts))
        return torch.cat(cast(list[Tensor], parts), 1)
    pieces = list(parts)
    if len(split.blocks) > 1:  # block by block, in each of them part by part
        pieces = [_rows(part, [split.spans(_height(part))[i]]) for i in range(len(split.blocks)) for part in parts]
    if all(isinstance(piece, PackedTensor) for piece in pieces):
        return rows_joined(cast(list[PackedTensor], pieces))
    return torch.cat(cast(list[Tensor], pieces))


def _piece(weight: Weight, split: Split, piece: int, count: int) -> Weight:
    if count == 1:
        return weight
    if split.by_rows:
        return _rows(weight, split.part_spans(_height(weight), piece, count))
    if isinstance(weight, PackedTensor):
        return coarsest(columns_of(weight, piece, count))
    return weight.chunk(count, 1)[piece].contiguous()


def _rows(weight: Weight, spans: Sequence[Span]) -> Weight:
    if isinstance(weight, PackedTensor):
        return rows_of(weight, spans)
    return torch.cat([weight[begin:end] for begin, end in spans])


def _height(weight: Weight) -> int:
    return weight.rows if isinstance(weight, PackedTensor) else len(weight)
