"""The linear layers that transformers calls ``Conv1D``, as torch's own.

GPT-2 and a few models of its time hold the weight of a linear layer transposed, [inputs, outputs]. A model whose
configuration says ``conv1d_is_linear`` has ``nn.Linear`` in their place, under the same names, the weights turned; so
layers, formats and artifacts need no second kind. The entry travels with the configuration: whoever builds the model
again knows which of the two its weights are for.
"""

from __future__ import annotations

from typing import Any

from torch import nn

FLAG = "conv1d_is_linear"


def with_linear_layers(model: Any) -> nn.Module:
    """``model`` itself, a model of transformers on the meta device, changed if its configuration says so."""
    if getattr(model.config, FLAG, False):
        for path in conv1d_layers(model):
            owner, _, leaf = path.rpartition(".")
            old = model.get_submodule(path)
            inputs, outputs = old.weight.shape
            dtype = old.weight.dtype
            new = nn.Linear(inputs, outputs, bias=old.bias is not None, device="meta", dtype=dtype).train(old.training)
            setattr(model.get_submodule(owner), leaf, new)
    made: nn.Module = model
    return made


def conv1d_layers(model: nn.Module) -> list[str]:
    """Paths of the layers that are transformers' ``Conv1D``."""
    from transformers.pytorch_utils import Conv1D

    return [path for path, module in model.named_modules() if type(module) is Conv1D]
