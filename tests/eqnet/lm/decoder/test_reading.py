"""What is not known whole is refused, and named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from eqnet.lm.decoder import UnknownBlockError
from eqnet.lm.decoder.model import decoder_of
from eqnet.lm.engine import TransformersEngine, engine_of
from tests.eqnet.lm.decoder.packed import KNOWN, packed
from tests.eqnet.lm.models import CONFIGS, random_ids


def test_blocks_are_read() -> None:
    made = packed(KNOWN["gemma2 with a window"]())
    blocks = decoder_of(made).blocks
    assert (blocks.heads, blocks.kv_heads, blocks.head_dim, blocks.hidden, blocks.intermediate) == (4, 2, 16, 64, 96)
    assert (blocks.softcap, blocks.logit_softcap, blocks.scale, blocks.activation) == (2.0, 1.0, 0.25, 1)
    assert [block.window for block in blocks.blocks] == [8, 0]
    norm = made.model.model.layers[0].input_layernorm.weight
    assert torch.equal(torch.from_numpy(blocks.blocks[0].attention_norm), norm + 1)


def test_halves_of_one_layer_are_gate_and_up() -> None:
    made = packed(KNOWN["glm"]())
    block = decoder_of(made).blocks.blocks[1]
    layer = made.layers["model.layers.1.mlp.gate_up_proj"]
    assert block.gate.layer is block.up.layer
    assert (block.gate.layer.rows, block.gate.layer.cols) == (layer.rows, layer.cols) == (192, 64)
    assert (block.gate.start, block.gate.stop, block.up.start, block.up.stop) == (0, 96, 96, 192)


def _attention(model: Any) -> Any:
    return model.model.layers[1].self_attn


def _positions(model: Any) -> None:
    model.model.rotary_emb.rope_type = "dynamic"


def _module(model: Any) -> None:
    _attention(model).q_norm = nn.Identity()


def _hook(model: Any) -> None:
    model.model.layers[0].mlp.register_forward_hook(lambda module, arguments, result: result * 2)


def _activation(model: Any) -> None:
    model.config.hidden_act = "relu"


def _norm(model: Any) -> None:
    model.model.layers[0].input_layernorm.variance_epsilon = 1.0


def _dense(model: Any) -> None:
    model.lm_head = nn.Linear(64, 96, bias=False)


def _both_ways(model: Any) -> None:
    _attention(model).is_causal = False


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_positions, "positions are of type 'dynamic'"),
        (_module, r"'model.layers.1.self_attn' has other modules than those of its family: k_norm"),
        (_hook, "'model.layers.0.mlp' has a hook"),
        (_activation, "hidden_act is 'relu'; known are silu"),
        (_norm, "'model.layers.0.input_layernorm' is a LlamaRMSNorm, or has another epsilon"),
        (_dense, "'lm_head' is a Linear, and not packed"),
        (_both_ways, "'model.layers.1.self_attn' sees tokens that are still to come"),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_what_is_not_known_is_refused(change: Callable[[Any], None], message: str) -> None:
    made = packed(KNOWN["llama"]())
    change(made.model)
    with pytest.raises(UnknownBlockError, match=message):
        decoder_of(made)


def test_halves_that_share_a_panel_are_refused() -> None:
    config = CONFIGS["glm"]()
    config.intermediate_size = 80
    with pytest.raises(UnknownBlockError, match="halves of 80 channels, no multiple of 32"):
        decoder_of(packed(config))


def test_other_families_run_on_transformers() -> None:
    made = packed(CONFIGS["gpt2"]())
    with pytest.raises(UnknownBlockError, match="GPT2LMHeadModel is none of LlamaForCausalLM, "):
        decoder_of(made)
    engine = engine_of(made)
    assert isinstance(engine, TransformersEngine)
    assert engine.session(8).feed(random_ids(8).numpy()).shape == (96,)
