"""Batches of the size that a model takes."""

from __future__ import annotations

import torch
from torch import Tensor

from eqnet.runtime.runner import Runner


def in_pieces(runner: Runner, x: Tensor) -> Tensor:
    """What ``runner`` returns for all of ``x``, also if it takes batches of one size only.

    Its last batch is then filled up with copies of the last input, whose results are dropped.
    """
    size = fixed_batch(runner)
    if size is None or len(x) == size:
        return runner(x)
    results = []
    for piece in pieces(x, size):
        filled = torch.cat([piece, *[piece[-1:]] * (size - len(piece))])
        results.append(runner(filled)[: len(piece)])
    return torch.cat(results)


def fixed_batch(runner: Runner) -> int | None:
    """How many inputs each batch must have; None if any number will do."""
    sizes = [spec.shape[0] for spec in runner.inputs if spec.shape]
    return sizes[0] if sizes else None


def pieces(x: Tensor, size: int) -> list[Tensor]:
    """``x`` in batches of ``size``, the last of which may be smaller."""
    return [x[first : first + size] for first in range(0, len(x), size)]
