"""Which layers of a language model are split among processes, and how; which numbers of processes can share it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.distributed.tensor.parallel import ParallelStyle

from eqnet.errors import InputError, ModelError
from eqnet.lm.parallel.slicing import can_split_columns, can_split_rows
from eqnet.lm.parallel.styles import (
    PackedColwise,
    PackedHead,
    PackedRowwise,
    PackedTable,
    SameHead,
    part_spans,
    vocabulary_span,
)
from eqnet.lm.structure import Structure, linears, structure_of
from eqnet.packed.layers import PackedEmbedding, PackedLayer, PackedLinear
from eqnet.packed.model import PackedModel

LEAST = 1 << 20
"""Weights of an embedding or head that is split; smaller ones are whole in every process, as gathering costs more."""


@dataclass(frozen=True)
class Role:
    """How a layer is split.

    Attributes:
        by_outputs: by its outputs (as q, k, v, gate and up are), or by its inputs (as those that follow them).
        parts: layers that were joined into it, each of which is split by itself.
    """

    by_outputs: bool
    parts: int = 1


ROLES: Mapping[str, Role] = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "c_fc"), Role(by_outputs=True)),
    "gate_up_proj": Role(by_outputs=True, parts=2),  # GLM's
    "c_attn": Role(by_outputs=True, parts=3),  # GPT-2's
    **dict.fromkeys(("o_proj", "down_proj", "c_proj"), Role(by_outputs=False)),
}
"""By the last part of a layer's path."""

_COUNTS = ("num_heads", "num_key_value_heads", "split_size")
"""What attention modules remember of their width, which is that of a part then."""

_NORMS = ("q_norm", "k_norm")
"""Of each head, or else of all heads together, which no process has."""


def plan_of(packed: PackedModel, size: int) -> dict[str, ParallelStyle]:
    """The style of every layer that is split among ``size`` processes, by path.

    Raises:
        ModelError: a layer is of a kind that cannot be split.
        InputError: so many processes cannot share the model; the message says how many can.
    """
    model: Any = packed.model
    structure = structure_of(model)
    found = _split_layers(model, structure)
    reason = _obstacle(model, found, size)
    if reason is not None:
        fitting = [str(count) for count in range(1, _heads(model)[0] + 1) if _obstacle(model, found, count) is None]
        raise InputError(f"{size} processes cannot share this model: {reason}; take {_listed(fitting)}")
    plan: dict[str, ParallelStyle] = {
        path: PackedColwise(role.parts) if role.by_outputs else PackedRowwise() for path, (_, role) in found.items()
    }
    return plan | _edges(model, structure, size)


def narrow(model: nn.Module, size: int) -> None:
    """Tells attention modules how wide their parts are; call it once, before the layers are split."""
    for module in model.modules():
        if any(hasattr(module, name) for name in ("q_proj", "c_attn")):
            for name in _COUNTS:
                if hasattr(module, name):
                    setattr(module, name, getattr(module, name) // size)


def _split_layers(model: Any, structure: Structure) -> dict[str, tuple[PackedLinear, Role]]:
    found = {}
    for block in structure.blocks:
        for path, layer in linears(model, block).items():
            role = ROLES.get(path.rpartition(".")[2])
            if role is None or not isinstance(layer, PackedLinear):
                what = "is in floating point" if role is not None else "is split in no way that is known"
                raise ModelError(f"layer '{path}' {what}, so processes cannot share the model; run it in one process")
            found[path] = layer, role
        for path, module in model.get_submodule(block).named_modules():
            weight = getattr(module, "weight", None)
            if path.rpartition(".")[2] in _NORMS and weight is not None and weight.numel() != _heads(model)[2]:
                raise ModelError(
                    f"'{block}.{path}' normalizes all heads together, so processes cannot share them; "
                    "run the model in one process"
                )
    return found


def _obstacle(model: Any, found: Mapping[str, tuple[PackedLinear, Role]], size: int) -> str | None:
    """Why so many processes cannot share a model; None if they can."""
    if size == 1:
        return None
    heads, shared, _ = _heads(model)
    if math.gcd(heads, shared) % size:
        return f"its {heads} heads, {shared} of keys and values, are to be divided among them"
    for path, (layer, role) in found.items():
        fmt = layer.weight_format
        if role.by_outputs:
            borders = [
                row for rank in range(size) for span in part_spans(layer.rows, rank, size, role.parts) for row in span
            ]
            if layer.rows % (role.parts * size):
                return f"the {layer.rows} outputs of '{path}' do not divide among them"
            if not can_split_rows(fmt, layer.cols, borders):
                return f"the rows of '{path}', {layer.cols} codes in {fmt}, do not end at whole bytes"
        elif not can_split_columns(fmt, layer.cols, size):
            return f"the {layer.cols} columns of '{path}' in {fmt} do not divide among them at whole bytes"
    return None


def _heads(model: Any) -> tuple[int, int, int]:
    """Heads of queries, heads of keys and values, and width of a head."""
    config = model.config.get_text_config(decoder=True)
    heads = int(config.num_attention_heads)
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return heads, int(getattr(config, "num_key_value_heads", None) or heads), int(width)


def _edges(model: Any, structure: Structure, size: int) -> dict[str, ParallelStyle]:
    """Embedding and head: split if they are large and packed, whole otherwise."""
    table, head = model.get_submodule(structure.embedding), model.get_submodule(structure.head)
    split_table = isinstance(table, PackedEmbedding) and _is_worth_it(table, size)
    split_head = isinstance(head, PackedLinear) and _is_worth_it(head, size)
    plan: dict[str, ParallelStyle] = {structure.head: PackedHead() if split_head else SameHead()}
    return {structure.embedding: PackedTable(), **plan} if split_table else plan


def _is_worth_it(layer: PackedLayer, size: int) -> bool:
    borders = [row for rank in range(size) for row in vocabulary_span(layer.rows, rank, size) if row < layer.rows]
    return layer.rows * layer.cols >= LEAST and can_split_rows(layer.weight_format, layer.cols, borders)


def _listed(counts: list[str]) -> str:
    return counts[0] if len(counts) == 1 else f"{', '.join(counts[:-1])} or {counts[-1]}"
