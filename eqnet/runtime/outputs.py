"""Which of a model's results counts where one is needed."""

from __future__ import annotations

from torch import Tensor
from torch.utils._pytree import tree_leaves

from eqnet.errors import ModelError


def first_output(returned: object) -> Tensor:
    """The first tensor of what a model returned: itself, or that of a tuple or mapping.

    Models of Hugging Face return their logits or hidden states first, before caches and attention weights.

    Raises:
        ModelError: there is none.
    """
    if isinstance(returned, Tensor):
        return returned
    tensors = [leaf for leaf in tree_leaves(returned) if isinstance(leaf, Tensor)]
    if not tensors:
        raise ModelError(f"the model returns a {type(returned).__name__} without any tensor; call it in Python")
    return tensors[0]
