"""Families of language models whose blocks are known whole; to add one is to add a row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """How the blocks of a family differ from Llama's.

    Attributes:
        norms: names of the norms before and after attention, and before and after the MLP; None for those after that
            there are not.
        offset: what is added to the weights of norms.
        interleaved: whether positions turn neighbours among elements, and not the two halves.
        activation: the entry of the configuration that names it.
        window: whose last tokens alone are seen: of no block, of all (``sliding_window``) or of those in
            ``layer_types``.
        softened: whether scores of attention have a soft cap.
    """

    norms: tuple[str, str | None, str, str | None] = ("input_layernorm", None, "post_attention_layernorm", None)
    offset: float = 0.0
    interleaved: bool = False
    activation: str = "hidden_act"
    window: str = ""
    softened: bool = False


_AFTER = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
_GLM4 = ("input_layernorm", "post_self_attn_layernorm", "post_attention_layernorm", "post_mlp_layernorm")

FAMILIES = {
    "LlamaForCausalLM": Family(),
    "MistralForCausalLM": Family(window="all"),
    "Qwen2ForCausalLM": Family(window="layer_types"),
    "Qwen3ForCausalLM": Family(window="layer_types"),
    "SmolLM3ForCausalLM": Family(window="layer_types"),
    "GlmForCausalLM": Family(interleaved=True),
    "Glm4ForCausalLM": Family(norms=_GLM4, interleaved=True),
    "GemmaForCausalLM": Family(offset=1.0),
    "Gemma2ForCausalLM": Family(
        norms=_AFTER, offset=1.0, activation="hidden_activation", window="layer_types", softened=True
    ),
    "Gemma3ForCausalLM": Family(norms=_AFTER, offset=1.0, activation="hidden_activation", window="layer_types"),
}
"""By the model's class."""

ACTIVATIONS = {"silu": 0, "swish": 0, "gelu_pytorch_tanh": 1}
"""The kernels' numbers of activations, by transformers' names."""

STATIC_ROPES = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary embeddings whose frequencies do not depend on how long the text is."""
