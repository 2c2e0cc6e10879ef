"""Layers of transformers that are torch's own in another dress, made torch's own: what packs those packs these.

1. ``Conv1D``, of GPT-2 and a few models of its time, is a linear layer whose weight is held transposed, [inputs,
   outputs]. A model whose configuration says ``conv1d_is_linear`` has ``nn.Linear`` in its place, under the same
   names, the weight turned. The entry travels with the configuration: whoever builds the model again knows which of
   the two its weights are for.
2. ``...ScaledWordEmbedding``, of Gemma and others, is an embedding whose result is multiplied by its ``embed_scale``.
   It becomes an ``nn.Embedding`` with a hook that multiplies, and keeps ``embed_scale``.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

FLAG = "conv1d_is_linear"


def with_plain_layers(model: Any) -> nn.Module:
    """``model`` itself, one of transformers whose parameters are on the meta device, so changed."""
    if getattr(model.config, FLAG, False):
        for path in conv1d_layers(model):
            _into_linear(model, path)
    for module in model.modules():
        if type(module).__name__.endswith("ScaledWordEmbedding") and isinstance(module, nn.Embedding):
            module.__class__ = nn.Embedding
            module.register_forward_hook(_scaled)
    made: nn.Module = model
    return made


def conv1d_layers(model: nn.Module) -> list[str]:
    """Paths of the layers that are transformers' ``Conv1D``."""
    from transformers.pytorch_utils import Conv1D

    return [path for path, module in model.named_modules() if type(module) is Conv1D]


def _into_linear(model: nn.Module, path: str) -> None:
    owner, _, leaf = path.rpartition(".")
    old = model.get_submodule(path)
    inputs, outputs = old.get_parameter("weight").shape
    new = nn.Linear(inputs, outputs, old.bias is not None, device="meta", dtype=old.get_parameter("weight").dtype)
    setattr(model.get_submodule(owner), leaf, new.train(old.training))


def _scaled(module: nn.Module, arguments: Any, result: Tensor) -> Tensor:
    """What a scaled embedding does with the rows of its table."""
    scale: Any = module.embed_scale
    return result * (scale.to(result.dtype) if isinstance(scale, Tensor) else scale)
