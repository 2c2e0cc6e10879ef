"""Small packed models of families that differ in what their blocks do."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

from eqnet.lm.source import open_source
from eqnet.packed.model import PackedModel
from eqnet.randomness import seeded
from tests.eqnet.lm.models import CONFIGS, VOCABULARY, packed_model

_SLIDING = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _changed(name: str, **changes: Any) -> Callable[[], Any]:
    def config() -> Any:
        made = CONFIGS[name]()
        for entry, value in changes.items():
            setattr(made, entry, value)
        return made

    return config


def _of(name: str, **changes: Any) -> Callable[[], Any]:
    def config() -> Any:
        import transformers

        return getattr(transformers, name)(**{**_SIZES, **changes})

    return config


_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
_YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}

KNOWN: dict[str, Callable[[], Any]] = {
    **{name: config for name, config in CONFIGS.items() if name != "gpt2"},
    "llama with biases": _of("LlamaConfig", attention_bias=True, mlp_bias=True),
    "llama with llama3 positions": _of("LlamaConfig", rope_parameters=_LLAMA3),
    "qwen3 with yarn positions": _of("Qwen3Config", rope_parameters=_YARN),
    "mistral with a window": _of("MistralConfig", sliding_window=8),
    "mistral": _of("MistralConfig", sliding_window=None),
    "qwen2 with a window": _of("Qwen2Config", use_sliding_window=True, **_SLIDING),
    "smollm3": _of("SmolLM3Config", no_rope_layers=[1, 0]),
    "gemma": _of("GemmaConfig"),
    "gemma2 with a window": _changed("gemma2", **_SLIDING, attn_logit_softcapping=2.0, final_logit_softcapping=1.0),
    "gemma3 with a window": _changed("gemma3", **_SLIDING),
}
"""Configurations of models that the decoder runs."""


def packed(config: Any) -> PackedModel:
    """A model with random weights, norms and biases included, every layer of it packed."""
    import torch
    from transformers import AutoModelForCausalLM

    with seeded(0), torch.no_grad():
        model = AutoModelForCausalLM.from_config(config).eval()
        for parameter in model.parameters():
            parameter += 0.15 * torch.randn(parameter.shape)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return packed_model(open_source(folder))
