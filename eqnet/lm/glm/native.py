"""ChatGLM2, ChatGLM3 and GLM-4 as transformers' own ``GlmForCausalLM``, so that eqnet runs them.

Their blocks are the same: RMS norms, rotary positions on the first half of each head with neighbouring columns as
pairs, shared heads of keys and values, a gate before its value in the MLP. What differs is the names, and that q, k and
v are one layer here and three there:

    transformer.embedding.word_embeddings             model.embed_tokens
    transformer.encoder.layers.N.self_attention.
        query_key_value                               model.layers.N.self_attn.q_proj, k_proj, v_proj
        dense                                         model.layers.N.self_attn.o_proj
    transformer.encoder.layers.N.mlp.dense_h_to_4h    model.layers.N.mlp.gate_up_proj
    transformer.encoder.layers.N.mlp.dense_4h_to_h    model.layers.N.mlp.down_proj
    transformer.encoder.final_layernorm               model.norm
    transformer.output_layer                          lm_head

Positions are stretched in two ways under one name: ``rope_ratio`` divides the positions of ChatGLM2, and multiplies
the base of its successors.
"""

from __future__ import annotations

import itertools
import json
from typing import Any

import torch

from eqnet.errors import InputError
from eqnet.lm.glm.checkpoint import GlmCheckpoint, Kind, Part, Weight
from eqnet.lm.glm.layout import QUERY_KEY_VALUE
from eqnet.lm.opening import transformers_of
from eqnet.lm.parallel.slicing import Span, rows_of
from eqnet.packed.tensor import PackedTensor

_BASE = 10000.0
"""Of the positions' frequencies."""

_RENAMED = {
    "transformer.embedding.word_embeddings": "model.embed_tokens",
    "transformer.encoder.final_layernorm": "model.norm",
    "transformer.encoder.layers": "model.layers",
    "transformer.output_layer": "lm_head",
    "self_attention.dense": "self_attn.o_proj",
    "mlp.dense_h_to_4h": "mlp.gate_up_proj",
    "mlp.dense_4h_to_h": "mlp.down_proj",
}
_FREQUENCIES = "rotary_pos_emb.inv_freq"  # transformers makes them anew
_ALWAYS = {
    "rmsnorm": True,
    "post_layer_norm": True,
    "add_bias_linear": False,
    "apply_residual_connection_post_layernorm": False,
    "multi_query_attention": True,
}
"""What ``GlmForCausalLM`` does whatever its configuration says."""


def runs_natively(checkpoint: GlmCheckpoint) -> bool:
    """Whether transformers has the checkpoint's model under another name."""
    return checkpoint.kind is Kind.CHATGLM2


def to_native(checkpoint: GlmCheckpoint) -> tuple[dict[str, Any], Part]:
    """Configuration and weights of the ``GlmForCausalLM`` that is the checkpoint's model.

    Args:
        checkpoint: in one piece.

    Raises:
        InputError: its configuration asks for what ``GlmForCausalLM`` does not do, or lacks what is needed.
        MissingPackageError: transformers is not installed.
    """
    sources = _sources(checkpoint)

    def weight(name: str, without_codes: bool) -> Weight:
        source, span = sources[name]
        whole = checkpoint.weights.outline(source) if without_codes else checkpoint.weights[source]
        if span is None:
            return whole
        return rows_of(whole, [span]) if isinstance(whole, PackedTensor) else whole[span[0] : span[1]].clone()

    return _config(checkpoint), Part(sources, weight)


def _sources(checkpoint: GlmCheckpoint) -> dict[str, tuple[str, Span | None]]:
    """For each native name the checkpoint's tensor, and which of its rows; None for all."""
    sizes = checkpoint.sizes
    width = sizes.attention // (sizes.heads or 1)
    shared = width * (sizes.groups or 0)
    borders = [0, sizes.attention, sizes.attention + shared, sizes.attention + 2 * shared]
    found: dict[str, tuple[str, Span | None]] = {}
    for name in checkpoint.names:
        if name.endswith(_FREQUENCIES):
            continue
        renamed = name
        for old, new in _RENAMED.items():
            renamed = renamed.replace(old, new)
        if f".{QUERY_KEY_VALUE}." in name:
            for part, span in zip(("q_proj", "k_proj", "v_proj"), itertools.pairwise(borders)):
                found[renamed.replace(f"self_attention.{QUERY_KEY_VALUE}", f"self_attn.{part}")] = name, span
        else:
            found[renamed] = name, None
    return found


def _config(checkpoint: GlmCheckpoint) -> dict[str, Any]:
    transformers = transformers_of(checkpoint.folder)
    given, sizes = checkpoint.config, checkpoint.sizes
    for key, expected in _ALWAYS.items():
        if given.get(key, expected) != expected:
            raise InputError(
                f"{checkpoint.folder / 'config.json'}: {key} is {given[key]!r}, for which transformers has no model; "
                "read_glm gives the weights to a model of your own"
            )
    if sizes.heads is None or sizes.groups is None:
        raise InputError(f"{checkpoint.folder / 'config.json'}: lacks num_attention_heads or multi_query_group_num")
    settings = {
        "vocab_size": sizes.vocabulary,
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.inner,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.groups,
        "head_dim": sizes.attention // sizes.heads,
        "attention_bias": bool(given.get("add_qkv_bias", True)),
        "rms_norm_eps": given.get("layernorm_epsilon", 1e-5),
        "max_position_embeddings": given.get("seq_length", 2048),
        "rope_parameters": {**_positions(checkpoint), "partial_rotary_factor": 0.5},
        "tie_word_embeddings": False,
        "eos_token_id": given.get("eos_token_id", 2),
        "pad_token_id": given.get("pad_token_id", 0),
        "bos_token_id": given.get("bos_token_id"),
    }
    config: dict[str, Any] = json.loads(transformers.GlmConfig(**settings).to_json_string(use_diff=False))
    return {**config, "architectures": ["GlmForCausalLM"], "model_type": "glm", "dtype": _dtype(checkpoint)}


def _positions(checkpoint: GlmCheckpoint) -> dict[str, Any]:
    """How positions are turned; only the model's name tells in which of the two ways they are stretched."""
    ratio = checkpoint.config.get("rope_ratio") or 1
    if not isinstance(ratio, int | float) or ratio <= 0:
        raise InputError(f"{checkpoint.folder / 'config.json'}: rope_ratio is {ratio!r}; expected a positive number")
    name = f"{checkpoint.config.get('_name_or_path', '')} {checkpoint.folder.name}".lower()
    if "chatglm2" in name and ratio != 1:
        return {"rope_type": "linear", "factor": float(ratio), "rope_theta": _BASE}
    return {"rope_type": "default", "rope_theta": _BASE * ratio}


def _dtype(checkpoint: GlmCheckpoint) -> str:
    table = checkpoint.weights["transformer.embedding.word_embeddings.weight"]
    dtype: torch.dtype = table.scale.dtype if isinstance(table, PackedTensor) else table.dtype
    return str(dtype).removeprefix("torch.")
