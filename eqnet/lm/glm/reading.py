"""From a folder to an opened checkpoint: whose it is, how large its model is, and that no part of it is missing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from eqnet.errors import InputError
from eqnet.lm.glm.checkpoint import GlmCheckpoint, Kind, Part, Sizes, Weight
from eqnet.lm.glm.folders import Stored, open_parts, read_settings
from eqnet.lm.glm.layout import QUERY_KEY_VALUE, SCALE, WEIGHT
from eqnet.packed.glm import import_glm

_LAYER = re.compile(r"transformer\.(?:encoder\.)?layers\.([0-9]+)\.")


def read_glm(folder: str | Path, *, heads: int | None = None) -> GlmCheckpoint:
    """Opens a checkpoint of GLM-130B or a ChatGLM; a weight is read when it is asked for.

    Quantized weights are ``PackedTensor``, in whose codes and scales nothing is rounded; all else is as it is stored.

    Args:
        folder: of GLM-130B, with ``latest`` in it or the files of the processes themselves; or of a ChatGLM.
        heads: of the queries, where the checkpoint does not tell.

    Raises:
        InputError: the folder holds no such checkpoint, a part of it is missing, or the parts are not of one model.
        RunError: a file is damaged.
    """
    folder = Path(folder)
    stored = open_parts(folder)
    _check_alike(folder, stored)
    config = read_settings(folder)
    kind, sizes = _described(folder, stored, config, heads)
    names = tuple(sorted((key for key in stored[0].keys if not key.endswith(SCALE)), key=_in_order))
    parts = tuple(Part(names, partial(_weight, weights, sizes.bits)) for weights in stored)
    return GlmCheckpoint(folder, kind, sizes, config, parts)


def _weight(stored: Stored, bits: int | None, name: str, without_codes: bool) -> Weight:
    scale = name.removesuffix(WEIGHT) + SCALE
    if bits is None or not name.endswith(WEIGHT) or scale not in stored.keys:
        return stored.read(name)
    codes = torch.empty(stored.shape(name), dtype=torch.int8, device="meta") if without_codes else stored.read(name)
    return import_glm(codes, stored.read(scale), bits, name=name)


def _check_alike(folder: Path, stored: Sequence[Stored]) -> None:
    """Raises InputError unless all parts have the same tensors in the same shapes."""
    first = stored[0]
    for rank, weights in enumerate(stored[1:], 1):
        different = sorted(first.keys ^ weights.keys)
        if different:
            has, lacks = (0, rank) if different[0] in first.keys else (rank, 0)
            raise InputError(f"{folder}: rank {has} has '{different[0]}', and rank {lacks} has not; copy both anew")
        for key in first.keys:
            if weights.shape(key) != first.shape(key):
                raise InputError(
                    f"{folder}: '{key}' is of shape {weights.shape(key)} in rank {rank} and of {first.shape(key)} in "
                    "rank 0; the parts are not of one checkpoint"
                )


def _described(
    folder: Path, stored: Sequence[Stored], config: Mapping[str, object], heads: int | None
) -> tuple[Kind, Sizes]:
    """Whose checkpoint it is, and the sizes of its model."""
    keys, shape, degree = stored[0].keys, stored[0].shape, len(stored)

    def named(end: str) -> str:
        found = sorted(key for key in keys if key.endswith(end))
        if not found:
            raise InputError(f"{folder}: has no tensor '...{end}', so it is no checkpoint of GLM-130B or a ChatGLM")
        return found[0]

    block = named(f"{QUERY_KEY_VALUE}{WEIGHT}").removesuffix(f"{QUERY_KEY_VALUE}{WEIGHT}")
    kind = _kind(block, keys)
    hidden = shape(named("final_layernorm.weight"))[0]
    bits = _bits(folder, block, stored[0], config, hidden)
    codes = 8 // bits if bits is not None else 1

    def columns(name: str) -> int:
        return shape(name)[1] * (codes if name.removesuffix(WEIGHT) + SCALE in keys else 1)

    inner = columns(named("mlp.dense_4h_to_h.weight")) * degree
    attention = columns(f"{block}dense.weight") * degree
    heads = heads or _heads(folder, stored[0], config, attention)
    groups = _number(config, "multi_query_group_num") if config.get("multi_query_attention") else None
    sizes = Sizes(
        layers=_layers(folder, keys, config),
        hidden=hidden,
        attention=attention,
        inner=inner,
        vocabulary=shape(named("word_embeddings.weight"))[0] * degree,
        gated=shape(named("mlp.dense_h_to_4h.weight"))[0] * degree == 2 * inner,
        heads=heads,
        groups=groups,
        bits=bits,
    )
    _check_complete(folder, sizes, shape(block + QUERY_KEY_VALUE + WEIGHT)[0], degree)
    return kind, sizes


def _layers(folder: Path, keys: frozenset[str], config: Mapping[str, object]) -> int:
    """How many blocks there are; raises InputError if one of them is missing."""
    found = {int(match[1]) for key in keys if (match := _LAYER.match(key))}
    count = _number(config, "num_layers") if "num_layers" in config else max(found) + 1
    missing = sorted(set(range(count)) - found)
    if missing or len(found) != count:
        which = f"layer {missing[0]} is missing" if missing else f"there are {len(found)}"
        raise InputError(f"{folder}: its model has {count} layers, and {which}; copy the whole folder anew")
    return count


def _kind(block: str, keys: frozenset[str]) -> Kind:
    if block.startswith("transformer.encoder."):
        return Kind.CHATGLM2
    return Kind.CHATGLM if "lm_head.weight" in keys else Kind.GLM_130B


def _bits(folder: Path, block: str, stored: Stored, config: Mapping[str, object], hidden: int) -> int | None:
    """Bits of a code: as many as make a row of ``query_key_value`` as long as the residual stream is wide."""
    path = block + QUERY_KEY_VALUE
    if path + SCALE not in stored.keys:
        return None
    width = stored.shape(path + WEIGHT)[-1]
    bits = next((bits for bits in (4, 8) if width * 8 == hidden * bits), None)
    said = config.get("quantization_bit") or bits
    if bits is None or said != bits:
        raise InputError(
            f"{folder}: '{path}{WEIGHT}' has {width} bytes a row for {hidden} weights, and config.json says "
            f"{config.get('quantization_bit')} bits; expected weights of 4 or 8 bits"
        )
    return bits


def _heads(folder: Path, stored: Stored, config: Mapping[str, object], attention: int) -> int | None:
    """Heads of the queries: what the configuration says, or as the number of frequencies, two of them a head."""
    if "num_attention_heads" in config:
        return _number(config, "num_attention_heads")
    frequencies = next((key for key in sorted(stored.keys) if key.endswith("rotary_emb.inv_freq")), None)
    if frequencies is None:
        return None
    heads, left = divmod(attention, 2 * stored.shape(frequencies)[0])
    if left or not heads:
        raise InputError(
            f"{folder}: '{frequencies}' does not fit {attention} columns; the tensors are not of one model"
        )
    return heads


def _number(config: Mapping[str, object], key: str) -> int:
    value = config.get(key)
    if type(value) is not int or value < 1:
        raise InputError(f"config.json: {key} is {value!r}; expected a positive whole number")
    return value


def _check_complete(folder: Path, sizes: Sizes, rows: int, degree: int) -> None:
    """Raises InputError unless the parts make up a whole model, which they do not if the files of a rank are missing.

    Args:
        folder: for messages.
        sizes: of the parts together.
        rows: of ``query_key_value`` in one part.
        degree: number of parts.
    """
    shared = sizes.attention if sizes.groups is None else sizes.attention // (sizes.heads or 1) * sizes.groups
    if rows * degree != sizes.attention + 2 * shared or (sizes.groups is None and sizes.attention != sizes.hidden):
        raise InputError(
            f"{folder}: its {degree} parts have {sizes.attention} of {sizes.hidden} columns of attention.dense and "
            f"{rows * degree} rows of {QUERY_KEY_VALUE} together, which is no whole model; "
            f"the file of rank {degree} is missing, or the configuration is of another model"
        )
    if sizes.heads is not None and sizes.attention % sizes.heads:
        raise InputError(f"{folder}: {sizes.heads} heads do not divide {sizes.attention} columns; say how many it has")


def _in_order(name: str) -> list[tuple[int, str]]:
    """Sorts names of layers: ``layers.9`` before ``layers.10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]
