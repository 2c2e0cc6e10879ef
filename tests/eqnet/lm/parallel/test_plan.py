"""Which layers are split, and how many processes can share a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import transformers

import eqnet
from eqnet.errors import InputError, ModelError
from eqnet.lm.parallel import plan
from eqnet.lm.parallel.plan import plan_of
from eqnet.lm.parallel.styles import PackedColwise, PackedHead, PackedRowwise, PackedTable, SameHead
from eqnet.randomness import seeded
from tests.eqnet.lm.models import CONFIGS, random_ids
from tests.eqnet.lm.packed_models import packed_model


def packed_of(model_class: str, config: Any, choices: str = "w=4:channel:sym a=float edge=none") -> Any:
    with seeded(0):
        model = getattr(transformers, model_class)(config).eval()
    ids = {"input_ids": random_ids(1, 8)}
    supernet = eqnet.elasticize(model, eqnet.Choices.parse(choices), ids)
    supernet.calibrate([ids])
    return eqnet.pack(supernet, supernet.space.draw(np.random.default_rng(0)))


def test_layers_of_a_block_are_split_so_that_two_sums_do() -> None:
    found = plan_of(packed_model("glm4")[1], 2)
    block = {path.removeprefix("model.layers.0."): style for path, style in found.items() if "layers.0." in path}
    assert {path: type(style) for path, style in block.items()} == {
        "mlp.gate_up_proj": PackedColwise,
        "mlp.down_proj": PackedRowwise,
        "self_attn.q_proj": PackedColwise,
        "self_attn.k_proj": PackedColwise,
        "self_attn.v_proj": PackedColwise,
        "self_attn.o_proj": PackedRowwise,
    }
    fused = block["mlp.gate_up_proj"]
    assert isinstance(fused, PackedColwise)
    assert fused.parts == 2


def test_large_tables_are_split_and_small_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = packed_model("llama")[1]
    small = plan_of(packed, 2)
    assert isinstance(small["lm_head"], SameHead)
    assert "model.embed_tokens" not in small
    monkeypatch.setattr(plan, "LEAST", 96 * 64)
    large = plan_of(packed, 2)
    assert isinstance(large["lm_head"], PackedHead)
    assert isinstance(large["model.embed_tokens"], PackedTable)


def test_processes_that_do_not_divide_the_heads_are_refused() -> None:
    config = CONFIGS["llama"]()
    config.num_attention_heads, config.num_key_value_heads = 12, 6
    packed = packed_of("LlamaForCausalLM", config)
    words = "4 processes cannot share this model: its 12 heads, 6 of keys and values, .*; take 1, 2, 3 or 6"
    with pytest.raises(InputError, match=words):
        plan_of(packed, 4)
    assert plan_of(packed, 3)


def test_columns_that_would_be_cut_within_a_byte_are_refused() -> None:
    config = CONFIGS["llama"]()
    config.intermediate_size, config.num_key_value_heads = 100, 4
    packed = packed_of("LlamaForCausalLM", config, "w=3:channel:sym a=float edge=none")
    words = r"4 processes .*: the 100 columns of 'model.layers.0.mlp.down_proj' in int3:channel do not .*; take 1$"
    with pytest.raises(InputError, match=words):
        plan_of(packed, 4)


def test_layers_that_are_not_known_are_refused_by_name() -> None:
    common = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    fused = transformers.Phi3Config(
        **common, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, eos_token_id=2
    )
    with pytest.raises(ModelError, match=r"'model.layers.0.self_attn.qkv_proj' is split in no way that is known"):
        plan_of(packed_of("Phi3ForCausalLM", fused), 2)
    whole = transformers.Olmo2Config(**common, num_attention_heads=4, num_key_value_heads=2)
    with pytest.raises(ModelError, match=r"'model.layers.0.self_attn.q_norm' normalizes all heads together"):
        plan_of(packed_of("Olmo2ForCausalLM", whole), 2)
