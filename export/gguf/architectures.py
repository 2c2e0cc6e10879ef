"""Models of transformers that llama.cpp has, and how it names their hyperparameters; one row a type of model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from eqnet.errors import ModelError
from eqnet.export.gguf.rope import rope_fields

Fields = dict[str, Any]


def _nothing(config: Any) -> Fields:
    return {}


@dataclass(frozen=True)
class Architecture:
    """A family of models in llama.cpp.

    Attributes:
        name: llama.cpp's.
        activations: of the blocks' networks, those that llama.cpp computes for this family.
        interleaved: whether rows of queries and keys are stored in the order in which llama.cpp rotates them, pair by
            pair, and not in that of transformers, halves of a head one after the other.
        norm_offset: what is added to the weights of norms.
        fields: hyperparameters that only this family has, by name.
        unlike: why a model of this family is none that llama.cpp computes, in words; None if it is one.
    """

    name: str
    activations: tuple[str, ...] = ("silu",)
    interleaved: bool = False
    norm_offset: float = 0.0
    fields: Callable[[Any], Fields] = _nothing
    unlike: Callable[[Any], str | None] = lambda config: None

    def hyperparameters(self, config: Any) -> Fields:
        """By the names that llama.cpp has for them, without that of the family."""
        heads = config.num_attention_heads
        head = getattr(config, "head_dim", None) or config.hidden_size // heads
        inner = getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size
        window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
        return {
            "vocab_size": config.vocab_size,
            "context_length": config.max_position_embeddings,
            # Windows are those of families that have them; to others, they are where the context ends.
            **({"context_length": min(window, config.max_position_embeddings)} if window else {}),
            "embedding_length": config.hidden_size,
            "block_count": config.num_hidden_layers,
            "feed_forward_length": inner,
            "attention.head_count": heads,
            "attention.head_count_kv": getattr(config, "num_key_value_heads", None) or heads,
            **_epsilon(config),
            **rope_fields(config, head),
            **self.fields(config),
        }


def architecture_of(config: Any) -> Architecture:
    """That of a configuration of transformers.

    Raises:
        ModelError: llama.cpp has no such models, or they are others there.
    """
    kind = config.model_type
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ModelError(f"models of type '{kind}' have no GGUF form here; those of {known} have: try --to onnx")
    found = ARCHITECTURES[kind]
    activation = next(
        (value for name in ("hidden_activation", "hidden_act", "activation_function")
         if (value := getattr(config, name, None))), None,
    )  # fmt: skip
    if activation is not None and activation not in found.activations:
        raise ModelError(
            f"llama.cpp computes {found.name} with the activation {found.activations[0]}; this model has {activation}"
        )
    reason = found.unlike(config)
    if reason is not None:
        raise ModelError(f"llama.cpp computes {found.name} otherwise: {reason}; try --to onnx")
    return found


def interleaved(rows: int, heads: int) -> Tensor:
    """Where each row of queries or keys, as llama.cpp has them, is in transformers' order, int64 [rows]."""
    return torch.arange(rows).view(heads, 2, rows // heads // 2).transpose(1, 2).reshape(-1)


def _epsilon(config: Any) -> Fields:
    if (epsilon := getattr(config, "rms_norm_eps", None)) is not None:
        return {"attention.layer_norm_rms_epsilon": float(epsilon)}
    return {"attention.layer_norm_epsilon": float(config.layer_norm_epsilon)}


def _heads(config: Any) -> Fields:
    return {"attention.key_length": config.head_dim, "attention.value_length": config.head_dim}


def _windows(config: Any) -> Fields:
    return {
        **_heads(config),
        "context_length": config.max_position_embeddings,
        "attention.sliding_window": config.sliding_window,
    }


def _caps(config: Any) -> Fields:
    caps = {
        "attn_logit_softcapping": config.attn_logit_softcapping,
        "final_logit_softcapping": config.final_logit_softcapping,
    }
    return {**_windows(config), **{name: float(cap) for name, cap in caps.items() if cap is not None}}


def _unlike_gemma(every: int) -> Callable[[Any], str | None]:
    """For families in which one layer of ``every`` sees the whole context, the last of them."""

    def unlike(config: Any) -> str | None:
        whole = [kind == "full_attention" for kind in config.layer_types]
        if whole != [(i + 1) % every == 0 for i in range(len(whole))]:
            return f"every {every}th layer, and no other, has no window"
        if config.query_pre_attn_scalar != config.head_dim:
            return f"queries are divided by the root of {config.head_dim}, not of {config.query_pre_attn_scalar}"
        if getattr(config, "final_logit_softcapping", None) and every == 6:
            return "logits have no bound"
        return None

    return unlike


_TANH = ("gelu_pytorch_tanh", "gelu_new")

_LLAMA = Architecture("llama", interleaved=True, fields=_heads)

ARCHITECTURES: Mapping[str, Architecture] = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3", fields=_heads),
    "gemma": Architecture("gemma", _TANH, norm_offset=1.0, fields=_heads),
    "gemma2": Architecture("gemma2", _TANH, norm_offset=1.0, fields=_caps, unlike=_unlike_gemma(2)),
    "gemma3_text": Architecture("gemma3", _TANH, norm_offset=1.0, fields=_windows, unlike=_unlike_gemma(6)),
    "glm": Architecture("chatglm"),
    "glm4": Architecture("glm4"),
    "gpt2": Architecture("gpt2", _TANH),
}
"""By ``model_type``."""
