"""A packed language model, put together from codes that are there already."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from eqnet.lm.source import Source
from eqnet.packed.layers import PACKED
from eqnet.packed.model import PackedModel
from eqnet.packed.record import LayerRecord, Record, remade_buffers
from eqnet.packed.tensor import PackedTensor


def assembled(
    source: Source, weights: Mapping[str, PackedTensor], metadata: Mapping[str, Any] | None = None
) -> PackedModel:
    """The model of a source on packed weights; what has none stays in floating point.

    Args:
        source: of the model.
        weights: by the path of the layer; layers that share their weight have the same object.
        metadata: kept in the model's record; whatever JSON can hold.

    Raises:
        InputError: a weight does not fit its layer.
    """
    model = source.skeleton()
    records = {
        path: packed_in_place(model.get_submodule(path), path, weight, source) for path, weight in weights.items()
    }
    source.fill(model, "")
    return PackedModel(model, Record(records, remade=remade_buffers(model), metadata=dict(metadata or {})))


def packed_in_place(layer: nn.Module, path: str, weight: PackedTensor, source: Source) -> LayerRecord:
    """Makes a linear layer or embedding, its weight there or not, packed; returns what is to be recorded of it."""
    kind, shape = type(layer), tuple(layer.get_parameter("weight").shape)
    bias = source.tensor(f"{path}.bias") if getattr(layer, "bias", None) is not None else None
    PACKED[kind].convert(layer, path, weight, bias, dtype=torch.float32)
    return LayerRecord(kind.__name__, weight.format, None, shape, "float32")
