"""Small checkpoints as GLM-130B's and ChatGLM's own tools write them, and NumPy's idea of how they are shared.

Nothing here knows of eqnet: weights are rounded, packed and cut as the published code and papers say.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[Any]

LAYERS, HIDDEN, HEADS, INNER, VOCABULARY = 2, 16, 4, 24, 32
QUANTIZED = ("query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")


def whole_model(seed: int = 0) -> dict[str, Array]:
    """GLM-130B in float32, one piece."""
    random = np.random.default_rng(seed)

    def drawn(*shape: int) -> Array:
        return random.normal(0, 0.1, shape).astype(np.float16).astype(np.float32)

    model = {"transformer.word_embeddings.weight": drawn(VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        shapes: dict[str, tuple[int, ...]] = {
            "input_layernorm.weight": (HIDDEN,),
            "input_layernorm.bias": (HIDDEN,),
            "attention.query_key_value.weight": (3 * HIDDEN, HIDDEN),
            "attention.query_key_value.bias": (3 * HIDDEN,),
            "attention.dense.weight": (HIDDEN, HIDDEN),
            "attention.dense.bias": (HIDDEN,),
            "attention.rotary_emb.inv_freq": (HIDDEN // HEADS // 2,),
            "post_attention_layernorm.weight": (HIDDEN,),
            "post_attention_layernorm.bias": (HIDDEN,),
            "mlp.dense_h_to_4h.weight": (2 * INNER, HIDDEN),
            "mlp.dense_h_to_4h.bias": (2 * INNER,),
            "mlp.dense_4h_to_h.weight": (HIDDEN, INNER),
            "mlp.dense_4h_to_h.bias": (HIDDEN,),
        }
        model |= {f"transformer.layers.{layer}.{name}": drawn(*shape) for name, shape in shapes.items()}
    return model | {f"transformer.final_layernorm.{end}": drawn(HIDDEN) for end in ("weight", "bias")}


def share(model: dict[str, Array], rank: int, degree: int) -> dict[str, Array]:
    """What one of ``degree`` processes has of a whole model."""
    part = {}
    for name, value in model.items():
        if name.endswith(("attention.dense.weight", "mlp.dense_4h_to_h.weight")):
            part[name] = np.split(value, degree, 1)[rank]
        elif ".mlp.dense_h_to_4h." in name:
            value_half, gate_half = np.split(value, 2)
            part[name] = np.concatenate([np.split(value_half, degree)[rank], np.split(gate_half, degree)[rank]])
        elif ".query_key_value." in name or name.endswith("word_embeddings.weight"):
            part[name] = np.split(value, degree)[rank]
        else:
            part[name] = value
    return part


def unite(parts: list[dict[str, Array]]) -> dict[str, Array]:
    """The whole model of what the processes have."""
    model = {}
    for name in parts[0]:
        values = [part[name] for part in parts]
        if name.endswith(("attention.dense.weight", "mlp.dense_4h_to_h.weight")):
            model[name] = np.concatenate(values, 1)
        elif ".mlp.dense_h_to_4h." in name:
            halves = [np.split(value, 2) for value in values]
            model[name] = np.concatenate([half[0] for half in halves] + [half[1] for half in halves])
        elif ".query_key_value." in name or name.endswith("word_embeddings.weight"):
            model[name] = np.concatenate(values)
        else:
            model[name] = values[0]
    return model


def quantized(part: dict[str, Array], bits: int) -> dict[str, Array]:
    """The linear layers in codes of absmax / (2^(b-1) - 1) a row, all else in float16."""
    stored: dict[str, Array] = {}
    for name, value in part.items():
        if not name.endswith(tuple(f"{path}.weight" for path in QUANTIZED)):
            stored[name] = value.astype(np.float16)
            continue
        scale = (np.abs(value).max(1) / (2 ** (bits - 1) - 1)).astype(np.float16)
        codes = np.round(value / scale.astype(np.float32)[:, None]).astype(np.int8)
        stored[name] = codes if bits == 8 else ((codes[:, ::2] << 4) | (codes[:, 1::2] & 15)).astype(np.int8)
        stored[f"{name}_scale"] = scale
    return stored


def dequantized(stored: dict[str, Array], bits: int) -> dict[str, Array]:
    """What a process computes with, in float32."""
    part = {}
    for name, value in stored.items():
        if name.endswith("_scale"):
            continue
        scale = stored.get(f"{name}_scale")
        if scale is None:
            part[name] = value.astype(np.float32)
            continue
        codes = value
        if bits == 4:  # arithmetic shifts keep the sign
            codes = np.stack([value >> 4, (value << 4).astype(np.int8) >> 4], 2).reshape(len(value), -1)
        part[name] = codes.astype(np.float32) * scale.astype(np.float32)[:, None]
    return part


def write_130b(folder: Path, degree: int, bits: int, seed: int = 0) -> list[dict[str, Array]]:
    """A checkpoint as ``tools/convert_tp.py`` writes it; gives back what each process computes with."""
    (folder / "49300").mkdir(parents=True)
    (folder / "latest").write_text("49300")
    parts = [quantized(share(whole_model(seed), rank, degree), bits) for rank in range(degree)]
    for rank, part in enumerate(parts):
        save(folder / "49300" / f"mp_rank_{rank:02}_model_states.pt", {"module": tensors(part)})
    return [dequantized(part, bits) for part in parts]


def save(path: Path, content: object) -> None:
    torch.save(content, path)


def tensors(part: dict[str, Array]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in part.items()}


def write_chatglm(folder: Path, model: dict[str, Array], config: dict[str, Any], bits: int) -> dict[str, Array]:
    """A checkpoint of Hugging Face in one ``.bin``; gives back what is computed with."""
    folder.mkdir(parents=True, exist_ok=True)
    part = quantized(model, bits)
    save(folder / "pytorch_model.bin", tensors(part))
    (folder / "config.json").write_text(json.dumps({**config, "quantization_bit": bits}))
    return dequantized(part, bits)
