"""Packed linear layers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from eqnet.packed.layers.base import PackedLayer, packs


@packs(nn.Linear)
class PackedLinear(PackedLayer):
    """``nn.Linear`` on inputs of any number of dimensions."""

    in_features: int
    out_features: int

    def forward(self, input: Tensor) -> Tensor:
        """[..., in_features] → [..., out_features], in the type of the input."""
        x = self.quantized_input(input)
        return F.linear(x, self.dequantized_weight(x.dtype), self.cast_bias(x.dtype))
