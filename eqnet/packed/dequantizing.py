"""A packed model in floating point again, to compare with."""

from __future__ import annotations

import copy

from torch import nn

from eqnet.packed.layers import PackedLayer
from eqnet.packed.layers.base import PARTS
from eqnet.packed.model import PackedModel

_OWN = ("weight_format", "input_format", "rows", "cols", "shape", "dtype", "path", "compute")
"""What a packed layer has beside its buffers and the hyperparameters of torch's layer."""


def dequantized(packed: PackedModel) -> nn.Module:
    """The same network with torch's own layers, on the dequantized weights; inputs of layers are not rounded.

    Weights that layers share are shared again. The packed model is left as it was.
    """
    model = copy.deepcopy(packed.model)
    weights: dict[tuple[int, ...], nn.Parameter] = {}  # by the codes and scales that they are made of
    for layer in [module for module in model.modules() if isinstance(module, PackedLayer)]:
        key = id(layer.codes), id(layer.scale)
        if key not in weights:
            weights[key] = nn.Parameter(layer.dequantized_weight(layer.dtype), requires_grad=False)
        bias = layer.cast_bias(layer.dtype)
        kind = layer.kind
        for name in PARTS:
            layer._buffers.pop(name, None)
        for name in _OWN:
            layer.__dict__.pop(name, None)
        layer.__class__ = kind  # type: ignore[assignment]
        layer.register_parameter("weight", weights[key])
        if kind is not nn.Embedding:
            layer.register_parameter("bias", nn.Parameter(bias, requires_grad=False) if bias is not None else None)
    return model.eval()
