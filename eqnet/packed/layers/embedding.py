"""Packed embeddings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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

    _copy: tuple[Tensor, Tensor, Tensor | None] | None = None

    def forward(self, input: Tensor) -> Tensor:
        """Integers of any shape → [..., embedding_dim], in the type of the table before it was quantized."""
        size = min(self.weight_format.group_size or self.cols, self.cols)
        shape = self.rows, self.cols, size, self.weight_format.bits
        return packed_embedding(input, *self._on(input.device), shape).to(self.dtype)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
        """What is stored, where it is looked up."""
        parts = self.codes, self.scale, self.zero_point
        if device == self.codes.device or torch.compiler.is_compiling():
            return parts
        if self._copy is None or self._copy[0].device != device:
            codes, scale, zero_point = parts
            self._copy = codes.to(device), scale.to(device), None if zero_point is None else zero_point.to(device)
        return self._copy

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedEmbedding:
        super()._apply(fn, recurse)
        self._copy = None
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._copy = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be made again."""
        return {name: value for name, value in self.__dict__.items() if name != "_copy"}
