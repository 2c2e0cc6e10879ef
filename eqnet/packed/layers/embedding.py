"""Packed embeddings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from eqnet.ops import packed_embedding
from eqnet.packed.layers.base import PackedLayer, packs


@packs(nn.Embedding)
class PackedEmbedding(PackedLayer):
    """``nn.Embedding``; its input, the indices, is never quantized.

    A table that is tied to a head is stored on the CPU once the head was prepared for a GPU: then it has a copy there.
    """

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None

    _prepared: tuple[Tensor, Tensor, Tensor | None] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Integers of any shape → [..., embedding_dim], in the type of the table before it was quantized."""
        size = min(self.weight_format.group_size or self.cols, self.cols)
        shape = self.rows, self.cols, size, self.weight_format.bits
        return packed_embedding(input, *self._on(input.device), shape).to(self.dtype)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """What is stored, where it is looked up."""
        parts = self.codes, self.scale, self.zero_point
        if device == self.codes.device:
            return parts
        if self._prepared is None or self._prepared[0].device != device:
            codes, scale, zero_point = parts
            self._prepared = codes.to(device), scale.to(device), None if zero_point is None else zero_point.to(device)
        return self._prepared

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedEmbedding:
        super()._apply(fn, recurse)
        self._prepared = None
        return self
