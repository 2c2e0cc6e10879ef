"""ChatGLM2, ChatGLM3 and GLM-4: small random weights, and the published forward pass in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

LAYERS, HIDDEN, HEADS, GROUPS, WIDTH, INNER, VOCABULARY = 2, 32, 4, 2, 8, 48, 64

CONFIG: dict[str, Any] = {
    "model_type": "chatglm",
    "architectures": ["ChatGLMModel"],
    "_name_or_path": "THUDM/chatglm3-6b",
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False,
    "ffn_hidden_size": INNER,
    "hidden_size": HIDDEN,
    "kv_channels": WIDTH,
    "layernorm_epsilon": 1e-5,
    "multi_query_attention": True,
    "multi_query_group_num": GROUPS,
    "num_attention_heads": HEADS,
    "num_layers": LAYERS,
    "padded_vocab_size": VOCABULARY,
    "post_layer_norm": True,
    "rmsnorm": True,
    "seq_length": 128,
    "torch_dtype": "float16",
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def model(seed: int = 0) -> dict[str, Array]:
    """Weights by the names of the published code, in float32."""
    random = np.random.default_rng(seed)

    def drawn(*shape: int, around: float = 0) -> Array:
        return random.normal(around, 0.2, shape).astype(np.float16).astype(np.float32)

    rows = (HEADS + 2 * GROUPS) * WIDTH
    weights = {
        "transformer.embedding.word_embeddings.weight": drawn(VOCABULARY, HIDDEN),
        "transformer.rotary_pos_emb.inv_freq": drawn(WIDTH // 4),
        "transformer.encoder.final_layernorm.weight": drawn(HIDDEN, around=1),
        "transformer.output_layer.weight": drawn(VOCABULARY, HIDDEN),
    }
    for layer in range(LAYERS):
        block = f"transformer.encoder.layers.{layer}."
        weights |= {
            f"{block}input_layernorm.weight": drawn(HIDDEN, around=1),
            f"{block}self_attention.query_key_value.weight": drawn(rows, HIDDEN),
            f"{block}self_attention.query_key_value.bias": drawn(rows),
            f"{block}self_attention.dense.weight": drawn(HIDDEN, HEADS * WIDTH),
            f"{block}post_attention_layernorm.weight": drawn(HIDDEN, around=1),
            f"{block}mlp.dense_h_to_4h.weight": drawn(2 * INNER, HIDDEN),
            f"{block}mlp.dense_4h_to_h.weight": drawn(HIDDEN, INNER),
        }
    return weights


def logits(weights: dict[str, Array], ids: list[int], *, base: float = 10000, stretch: float = 1) -> Array:
    """[T, vocabulary] in float64.

    Args:
        weights: by the names of the published code.
        ids: [T].
        base: of the frequencies.
        stretch: by which positions are divided.
    """
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    angles = np.outer(np.arange(len(ids)) / stretch, base ** (-np.arange(0, WIDTH // 2, 2) / (WIDTH // 2)))
    x = w["transformer.embedding.word_embeddings.weight"][ids]
    for layer in range(LAYERS):
        block = f"transformer.encoder.layers.{layer}."
        y = _norm(x, w[f"{block}input_layernorm.weight"])
        mixed = y @ w[f"{block}self_attention.query_key_value.weight"].T
        mixed = mixed + w[f"{block}self_attention.query_key_value.bias"]
        q, k, v = np.split(mixed, [HEADS * WIDTH, (HEADS + GROUPS) * WIDTH], 1)
        heads = []
        for head in range(HEADS):
            group = head // (HEADS // GROUPS)
            mine, its = slice(head * WIDTH, (head + 1) * WIDTH), slice(group * WIDTH, (group + 1) * WIDTH)
            scores = _turned(q[:, mine], angles) @ _turned(k[:, its], angles).T / np.sqrt(WIDTH)
            scores = np.where(np.tri(len(ids), dtype=bool), scores, -np.inf)
            shares = np.exp(scores - scores.max(1, keepdims=True))
            heads.append(shares / shares.sum(1, keepdims=True) @ v[:, its])
        x = x + np.concatenate(heads, 1) @ w[f"{block}self_attention.dense.weight"].T
        y = _norm(x, w[f"{block}post_attention_layernorm.weight"])
        gate, value = np.split(y @ w[f"{block}mlp.dense_h_to_4h.weight"].T, 2, 1)
        x = x + (gate / (1 + np.exp(-gate)) * value) @ w[f"{block}mlp.dense_4h_to_h.weight"].T
    result: Array = _norm(x, w["transformer.encoder.final_layernorm.weight"]) @ w["transformer.output_layer.weight"].T
    return result


def _norm(x: Array, weight: Array) -> Array:
    return x / np.sqrt((x**2).mean(1, keepdims=True) + CONFIG["layernorm_epsilon"]) * weight


def _turned(x: Array, angles: Array) -> Array:
    """The first half of a head's columns, pair by pair."""
    turned, half = x.copy(), x.shape[1] // 2
    even, odd = x[:, 0:half:2], x[:, 1:half:2]
    turned[:, 0:half:2] = even * np.cos(angles) - odd * np.sin(angles)
    turned[:, 1:half:2] = odd * np.cos(angles) + even * np.sin(angles)
    return turned
