"""Packed embeddings."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from eqnet.packed.layers.base import PackedLayer, packs


@packs(nn.Embedding)
class PackedEmbedding(PackedLayer):
    """``nn.Embedding``; its input, the indices, is never quantized."""

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None

    def forward(self, input: Tensor) -> Tensor:
        """Integers of any shape → [..., embedding_dim], in the type of the table before it was quantized."""
        return F.embedding(input, self.dequantized_weight(self.dtype), self.padding_idx)
