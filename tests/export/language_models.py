"""Small random language models, packed, for tests of what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from eqnet.formats import Format
from eqnet.packed.layers import PACKED
from eqnet.packed.model import PackedModel
from eqnet.packed.planes import pack
from eqnet.packed.record import LayerRecord, Record, type_name
from eqnet.packed.tensor import PackedTensor

TOKENS, WIDTH, INNER = 160, 64, 96

COMMON = {
    "vocab_size": TOKENS,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
"""Arguments of most configurations."""


def rounded(weight: Tensor, fmt: Format) -> PackedTensor:
    """``weight`` [rows, cols], rounded to a grid that spans the range of each group."""
    rows, cols = weight.shape
    shape = fmt.scale_shape(rows, cols)
    size = fmt.group_size or cols
    low, high = torch.empty(shape), torch.empty(shape)
    for i in range(shape[1]):
        part = weight[:, i * size : (i + 1) * size]
        part = part.reshape(shape[0], -1)
        low[:, i], high[:, i] = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
    if fmt.symmetric:
        scale = (torch.maximum(-low, high) / -fmt.qmin).clamp(min=1e-6).half()
        zero = torch.zeros(shape)
    else:
        scale = ((high - low) / fmt.qmax).clamp(min=1e-6).half()
        zero = (-low / scale.float()).round().clamp(0, fmt.qmax)
    wide = [part.float().expand(rows, shape[1]).repeat_interleave(size, 1)[:, :cols] for part in (scale, zero)]
    codes = ((weight / wide[0]).round() + wide[1]).clamp(fmt.qmin, fmt.qmax).short()
    packed_zero = None if fmt.symmetric else pack(zero.short(), fmt.bits)
    return PackedTensor(fmt, rows, cols, pack(codes - fmt.qmin, fmt.bits), scale, packed_zero)


def packed(model: Any, formats: Mapping[str, str] | str, embedding: str | None = None) -> PackedModel:
    """``model`` with its linear layers packed, each in the format of the first key that its name holds.

    Args:
        model: of transformers; it is changed.
        formats: by parts of names, or one for all.
        embedding: the format of embedding and head; both stay in floating point if None.
    """
    formats = {"": formats} if isinstance(formats, str) else formats
    tied = model.config.tie_word_embeddings
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    shared: dict[int, PackedTensor] = {}
    records = {}
    for name, module in list(model.named_modules()):
        kind = type(module)
        if kind not in PACKED or PACKED[kind].kind is not kind:
            continue
        outside = module is head or isinstance(module, nn.Embedding)
        if outside and (embedding is None or module not in (head, table)):
            continue
        text = embedding if outside else next(fmt for key, fmt in formats.items() if key in name)
        fmt, weight = Format.parse(str(text)), module.weight
        key = id(weight)
        if key not in shared:
            shared[key] = rounded(weight.detach().float(), fmt)
        bias = getattr(module, "bias", None)
        shape, dtype = tuple(weight.shape), weight.dtype
        bias = bias.detach().float() if bias is not None else None
        PACKED[kind].convert(module, name, shared[key], bias)
        records[name] = LayerRecord(kind.__name__, fmt, None, shape, type_name(dtype))
    assert not (tied and embedding) or id(head.codes) == id(table.codes)
    return PackedModel(model, Record(records))


def random_model(name: str, seed: int = 0, spread: float = 1.0, **given: Any) -> Any:
    """A causal model of transformers in eval mode; ``name`` as in ``LlamaForCausalLM`` without its end.

    Args:
        name: of the class.
        seed: of the weights.
        spread: times the usual one, of the weights.
        given: of the configuration, beside ``COMMON``.
    """
    import transformers

    model_class = getattr(transformers, f"{name}ForCausalLM", None) or getattr(transformers, f"{name}LMHeadModel")
    known = COMMON | given
    config = model_class.config_class(**known)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = model_class(config).eval()
        for parameter in model.parameters():
            parameter.data = parameter.data + torch.randn_like(parameter) * 0.05 * spread
    return model
