"""Small random language models of several families."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from eqnet.formats import Format
from eqnet.lm.source import Source
from eqnet.lm.structure import linears, structure_of
from eqnet.packed.layers import PACKED
from eqnet.packed.model import PackedModel
from eqnet.packed.planes import pack
from eqnet.packed.record import LayerRecord, Record, remade_buffers
from eqnet.packed.tensor import PackedTensor
from eqnet.randomness import seeded

VOCABULARY = 96

_COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def _of(name: str, **changes: Any) -> Callable[[], Any]:
    def config() -> Any:
        import transformers

        return getattr(transformers, name)(**{**_COMMON, **changes})

    return config


_GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": _of("LlamaConfig"),
    "llama-tied": _of("LlamaConfig", tie_word_embeddings=True),
    "qwen2": _of("Qwen2Config"),
    "qwen3": _of("Qwen3Config", tie_word_embeddings=True),
    "glm": _of("GlmConfig"),
    "glm4": _of("Glm4Config"),
    "gpt2": _of("GPT2Config", **_GPT2),
    "gemma2": _of("Gemma2Config", query_pre_attn_scalar=16),
    "gemma3": _of("Gemma3TextConfig", query_pre_attn_scalar=16),
}
"""Configurations by name: hidden size 64, two blocks, two key-value heads where the family has them."""


def random_model(name: str, seed: int = 0) -> Any:
    """A model of one of ``CONFIGS`` with random weights, biases and norms included."""
    from transformers import AutoModelForCausalLM

    with seeded(seed), torch.no_grad():
        model = AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
        for parameter in model.parameters():
            parameter += 0.02 * torch.randn(parameter.shape)
    return model


def random_ids(*shape: int, seed: int = 0) -> torch.Tensor:
    """Token ids of the vocabulary."""
    return torch.randint(0, VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


def packed_model(source: Source, fmt: str = "int4:group32") -> PackedModel:
    """The model of a source, every linear layer and embedding rounded to a symmetric format, range by range."""
    model = source.load()
    structure = structure_of(model)
    paths = [
        structure.embedding,
        *(path for block in structure.blocks for path in linears(model, block)),
        structure.head,
    ]
    weights: dict[int, PackedTensor] = {}
    records = {}
    for path in paths:
        layer = model.get_submodule(path)
        weight = layer.weight
        if id(weight) not in weights:
            weights[id(weight)] = rounded(weight.detach(), Format.parse(fmt))
        kind = type(layer)
        bias = layer.bias.detach() if getattr(layer, "bias", None) is not None else None
        packed = weights[id(weight)]
        PACKED[kind].convert(layer, path, packed, bias)
        records[path] = LayerRecord(kind.__name__, packed.format, None, tuple(weight.shape), "float32")
    return PackedModel(model, Record(records, remade=remade_buffers(model)))


def rounded(weight: torch.Tensor, fmt: Format) -> PackedTensor:
    """The nearest codes, with the largest magnitude of each group at the largest code."""
    rows, cols = weight.shape
    size = fmt.group_size or cols
    groups = torch.nn.functional.pad(weight, (0, -cols % size)).view(rows, -1, size)
    scale = (groups.abs().amax(2) / fmt.qmax).clamp(min=1e-6).half()
    codes = (groups / scale.float().unsqueeze(2)).round().clamp(fmt.qmin, fmt.qmax).view(rows, -1)[:, :cols]
    return PackedTensor(fmt, rows, cols, pack(codes.short() - fmt.qmin, fmt.bits), scale, None)
