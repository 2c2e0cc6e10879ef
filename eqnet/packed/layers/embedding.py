"""Packed embeddings."""

from __future__ import annotations

from torch import Tensor, nn

from eqnet.ops import packed_embedding
from eqnet.packed.layers.base import PackedLayer, packs


@packs(nn.Embedding)
class PackedEmbedding(PackedLayer):
    """``nn.Embedding``; its input, the indices, is never quantized."""

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None

    def forward(self, input: Tensor) -> Tensor:
        """Integers of any shape → [..., embedding_dim], in the type of the table before it was quantized."""
        size = min(self.weight_format.group_size or self.cols, self.cols)
        shape = self.rows, self.cols, size, self.weight_format.bits
        return packed_embedding(input, self.codes, self.scale, self.zero_point, shape).to(self.dtype)
