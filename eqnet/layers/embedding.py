"""Elastic embeddings: the table is quantized, its integer input is not."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from eqnet.layers.base import Elastic, replaces


@replaces(nn.Embedding)
class ElasticEmbedding(Elastic, nn.Embedding):
    """``nn.Embedding``; weight-only, one output channel for each entry of the table."""

    @staticmethod
    def macs(layer: Any, inputs: Tensor, outputs: Tensor) -> int:
        return 0

    @staticmethod
    def channel_axis(layer: Any, outputs: Tensor) -> int | None:
        return None

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(
            input,
            self.quantized_weight(),
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )
