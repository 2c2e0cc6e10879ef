"""Families of language models whose blocks are known whole; to add one is to add a row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """How the blocks of a family differ from Llama's.

    Attributes:
        model_type: that the configuration names.
        norms: names of the norms before and after attention, and before and after the MLP; None for those after that
            there are not.
        offset: what is added to the weights of norms.
        interleaved: whether positions turn neighbours among elements, and not the two halves.
        partial: whether positions may turn some of the elements alone, where they are of the default type.
        unturned: the entry of the configuration that says which blocks positions turn, if all are not.
        activation: the entry of the configuration that names it.
        scalar: the entry whose inverse root the scores of attention are multiplied by; the width of a head if empty.
        window: whose last tokens alone are seen: of no block, of all (``sliding_window``) or of those in
            ``layer_types``.
        softened: whether scores of attention have a soft cap.
        scaled: whether embeddings are multiplied by the root of their width.
    """

    model_type: str
    norms: tuple[str, str | None, str, str | None] = ("input_layernorm", None, "post_attention_layernorm", None)
    offset: float = 0.0
    interleaved: bool = False
    partial: bool = False
    unturned: str = ""
    activation: str = "hidden_act"
    scalar: str = ""
    window: str = ""
    softened: bool = False
    scaled: bool = False


_AFTER = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
_GLM4 = ("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm")

FAMILIES = {
    "LlamaForCausalLM": Family("llama"),
    "MistralForCausalLM": Family("mistral", window="all"),
    "Qwen2ForCausalLM": Family("qwen2", window="layer_types"),
    "Qwen3ForCausalLM": Family("qwen3", window="layer_types"),
    "SmolLM3ForCausalLM": Family("smollm3", unturned="no_rope_layers", window="layer_types"),
    "GlmForCausalLM": Family("glm", interleaved=True, partial=True),
    "Glm4ForCausalLM": Family("glm4", norms=_GLM4, interleaved=True, partial=True),
    "GemmaForCausalLM": Family("gemma", offset=1.0, scaled=True),
    "Gemma2ForCausalLM": Family(
        "gemma2",
        norms=_AFTER,
        offset=1.0,
        activation="hidden_activation",
        scalar="query_pre_attn_scalar",
        window="layer_types",
        softened=True,
        scaled=True,
    ),
    "Gemma3ForCausalLM": Family(
        "gemma3_text",
        norms=_AFTER,
        offset=1.0,
        activation="hidden_activation",
        scalar="query_pre_attn_scalar",
        window="layer_types",
        scaled=True,
    ),
}
"""By the model's class."""

ACTIVATIONS = {"silu": 0, "swish": 0, "gelu_pytorch_tanh": 1}
"""The kernels' numbers of activations, by transformers' names."""
