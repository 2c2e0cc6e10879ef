"""Torch's shortcuts around the layers of a transformer."""

from __future__ import annotations

from torch import nn


def without_fast_paths(model: nn.Module) -> nn.Module:
    """``model`` itself, in which every layer is called: torch's inference fast paths read the weights past them."""
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
        elif isinstance(module, nn.TransformerEncoder):
            module.use_nested_tensor = False
    return model
