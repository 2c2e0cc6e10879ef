"""A causal language model as one function of its tokens and of the keys and values of those before them."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from transformers import DynamicCache

from eqnet.export.tracing import exported
from eqnet.packed.model import PackedModel

Cached = Sequence[tuple[Tensor, Tensor]]

_BATCH, _LENGTH, _PAST = 2, 3, 4
"""Of the example: all different, and none 1, which would be taken for a constant."""


class Decoding(nn.Module):
    """What a file computes.

    Args:
        model: of transformers, causal.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, past: Cached
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Logits of every token, and all keys and values.

        Args:
            input_ids: [batch, length].
            attention_mask: 1, or 0 for padding, [batch, past + length].
            position_ids: [batch, length].
            past: keys and values of each block, [batch, heads, past, head].

        Returns:
            [batch, length, tokens], and keys and values [batch, heads, past + length, head] of each block.
        """
        cache = DynamicCache()
        for i, (keys, values) in enumerate(past):
            cache.update(keys, values, i)
        given = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
        result = self.model(**given, **_caching(self.model, cache))
        return result.logits, [(layer.keys, layer.values) for layer in cache.layers]


@contextmanager
def decoding_program(packed: PackedModel) -> Iterator[ExportedProgram]:
    """The graph of ``Decoding`` of a packed model, with a node for each packed layer.

    Raises:
        ModelError: the model cannot be exported; the message names the line of its code.
    """
    model: Any = packed.model
    shapes = cache_shapes(model)
    past = [tuple(torch.zeros(_BATCH, heads, _PAST, head, dtype=dtype) for _ in "kv") for heads, head, dtype in shapes]
    places = torch.arange(_PAST, _PAST + _LENGTH).repeat(_BATCH, 1)
    mask = torch.ones(_BATCH, _PAST + _LENGTH, dtype=torch.int64)
    matrix, kept = {0: Dim.AUTO, 1: Dim.AUTO}, {0: Dim.AUTO, 2: Dim.AUTO}
    dynamic = (matrix, matrix, matrix, [(kept, kept) for _ in past])
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    try:
        with exported(packed, Decoding(model), (torch.zeros_like(places), mask, places, past), {}, dynamic) as program:
            yield program
    finally:
        model.set_attn_implementation(before)


def cache_shapes(model: Any) -> list[tuple[int, int, torch.dtype]]:
    """Heads of keys and values, what each of them holds, and its type, of each block; the model says so itself."""
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=torch.zeros(1, 1, dtype=torch.int64), **_caching(model, cache))
    return [(layer.keys.shape[1], layer.keys.shape[3], layer.keys.dtype) for layer in cache.layers]


def _caching(model: Any, cache: DynamicCache) -> dict[str, Any]:
    """The arguments that make a model keep keys and values; transformers renames one of them."""
    names = inspect.signature(type(model).forward).parameters
    return {"cache" if "cache" in names else "past_key_values": cache, "use_cache": True}
