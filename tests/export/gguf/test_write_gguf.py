"""GGUF files: every weight keeps its value, and llama.cpp answers as the packed model does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from eqnet.errors import ModelError, RunError
from eqnet.export.destinations import Export, destination
from eqnet.export.gguf import write_gguf
from eqnet.packed.model import PackedModel
from tests.export.language_models import TOKENS, packed, random_model

ROUNDED_INPUT = 5e-2
"""Largest error over the largest logit: llama.cpp rounds the inputs of products to 8 bits in blocks of 32, and attends
over keys and values in float16."""

TYPICAL = 5e-3
"""The same for the median of all logits: nothing is wrong but such rounding."""

LENGTH = 40

MIXED = {"down_proj": "int8:group32", "q_proj": "uint4:group32", "": "int4:group32"}
BY_ROWS = {
    "q_proj": "int2:channel", "k_proj": "uint4:channel", "v_proj": "int3:channel", "o_proj": "int6:channel",
    "gate_proj": "uint5:channel", "up_proj": "uint2:channel", "down_proj": "int4:channel",
}  # fmt: skip
"""In ggml's K types, but for the last."""

GEMMA = {"query_pre_attn_scalar": 16, "sliding_window": 16}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}

MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "llama": ("Llama", {"attention_bias": True}),
    "llama, by rows": ("Llama", {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}),
    "llama, tied": ("Llama", {"tie_word_embeddings": True}),
    "llama 3": ("Llama", {"rope_parameters": LLAMA3}),
    "yarn": ("Qwen3", {"rope_parameters": YARN}),
    "mistral": ("Mistral", {}),
    "qwen2": ("Qwen2", {}),
    "qwen3": ("Qwen3", {}),
    "gemma": ("Gemma", {}),
    "gemma2": ("Gemma2", GEMMA),
    "gemma3": ("Gemma3", GEMMA | {"num_hidden_layers": 6}),
    "glm": ("Glm", {}),
    "glm4": ("Glm4", {}),
    "gpt2": ("GPT2", {"num_key_value_heads": 4, "intermediate_size": 256}),
}

OWN_LAYERS = ("gemma", "gemma2", "gemma3", "gpt2")
"""Models with layers of transformers' own, until their files are opened."""


def made(name: str, folder: Path) -> PackedModel:
    kind, given = MODELS[name]
    model = random_model(kind, **given)
    if name in OWN_LAYERS:
        from eqnet.lm.source import open_source

        model.save_pretrained(folder / "float")
        model = open_source(folder / "float").load()
    return packed(model, BY_ROWS if name == "llama, by rows" else MIXED, "int8:group32")


def tensors(path: Path) -> dict[str, np.ndarray]:
    """All tensors of a file in floating point."""
    reader = gguf.GGUFReader(path)
    return {tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type) for tensor in reader.tensors}


def pairs_first(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head as llama.cpp rotates them: 0, half, 1, half + 1 and so on."""
    head = len(weight) // heads
    places = [h * head + i // 2 + i % 2 * (head // 2) for h in range(heads) for i in range(head)]
    return weight[places]


@pytest.mark.parametrize("name", ["llama", "llama, by rows", "llama, tied", "qwen3", "gpt2"])
def test_every_weight_has_its_value_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = made(name, tmp_path)
    report = write_gguf(model, tmp_path / "model.gguf")
    found, heads = tensors(tmp_path / "model.gguf"), {"attn_q": 4, "attn_k": 2}
    arch = {"gpt2": gguf.MODEL_ARCH.GPT2, "qwen3": gguf.MODEL_ARCH.QWEN3}.get(name, gguf.MODEL_ARCH.LLAMA)
    names = gguf.get_tensor_name_map(arch, 2)
    written = {}
    for path, layer in model.layers.items():
        key = names.get_name(path)
        expected = layer.weight.dequantize().numpy()
        turned = heads.get(key.rpartition(".")[2]) if "llama" in name else None
        written[key] = pairs_first(expected, turned) if turned else expected
    if name in ("llama, tied", "gpt2"):
        assert "output.weight" not in found
        del written["output"]
    for key, expected in written.items():
        np.testing.assert_array_equal(found[f"{key}.weight"], expected, key)
    assert report.nbytes == (tmp_path / "model.gguf").stat().st_size
    assert sum(report.forms.values()) == len(written)


def test_norms_and_biases_are_kept_and_hyperparameters_told(tmp_path: Path) -> None:
    model = made("llama", tmp_path)
    write_gguf(model, tmp_path / "model.gguf")
    found, state = tensors(tmp_path / "model.gguf"), model.model.state_dict()
    np.testing.assert_array_equal(found["blk.1.attn_norm.weight"], state["model.layers.1.input_layernorm.weight"])
    np.testing.assert_array_equal(found["blk.0.attn_v.bias"], state["model.layers.0.self_attn.v_proj.bias"])
    expected = pairs_first(state["model.layers.0.self_attn.k_proj.bias"].numpy(), 2)
    np.testing.assert_array_equal(found["blk.0.attn_k.bias"], expected)
    fields = {key: field.contents() for key, field in gguf.GGUFReader(tmp_path / "model.gguf").fields.items()}
    assert fields["general.architecture"] == "llama"
    assert fields["llama.attention.head_count_kv"] == 2
    assert fields["llama.rope.freq_base"] == 10000.0
    assert fields["llama.context_length"] == 128
    assert fields["tokenizer.ggml.model"] == "no_vocab"


@pytest.mark.parametrize("name", MODELS)
def test_llama_cpp_answers_as_the_packed_model(name: str, tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    model = made(name, tmp_path)
    write_gguf(model, tmp_path / "model.gguf")
    ids = torch.randint(3, TOKENS, (1, LENGTH), generator=torch.Generator().manual_seed(1))
    expected = model(ids).logits[0].numpy()
    engine = llama_cpp.Llama(
        str(tmp_path / "model.gguf"), n_ctx=128, logits_all=True, verbose=False, n_threads=1, n_threads_batch=1
    )
    engine.eval(ids[0].tolist())
    errors = abs(engine.scores[:LENGTH] - expected) / abs(expected).max()
    engine.close()
    assert errors.max() <= ROUNDED_INPUT
    assert np.median(errors) <= TYPICAL


def test_greedy_tokens_of_llama_cpp_are_those_of_the_packed_model(tmp_path: Path) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    model = packed(random_model("Llama", seed=2, spread=4.0), "int8:group32", "int8:group32")
    write_gguf(model, tmp_path / "model.gguf")
    ids = [5, 17, 42, 99]
    engine = llama_cpp.Llama(str(tmp_path / "model.gguf"), n_ctx=128, logits_all=True, verbose=False, n_threads=1)
    engine.eval(ids)
    said: list[int] = []
    for _ in range(16):
        said.append(int(engine.scores[engine.n_tokens - 1].argmax()))
        engine.eval(said[-1:])
    engine.close()
    for token in said:
        assert int(model(torch.tensor([ids])).logits[0, -1].argmax()) == token
        ids.append(token)


def test_formats_that_no_type_holds_are_refused_with_the_nearest(tmp_path: Path) -> None:
    model = packed(random_model("Llama"), {"up_proj": "int4:group16", "o_proj": "uint8:group32", "": "int4:group32"})
    with pytest.raises(ModelError) as refused:
        write_gguf(model, tmp_path / "model.gguf")
    text = str(refused.value)
    assert "gguf has no form for 4 of 14 layers" in text
    assert "layers.0.mlp.up_proj in int4:group16: ggml's types have no scale for 16 columns" in text
    assert "the nearest that gguf has is int4:group32" not in text.split("up_proj")[0]
    assert "self_attn.o_proj in uint8:group32" in text
    assert "the nearest that gguf has is int8:group32" in text
    assert not list(tmp_path.iterdir())


def test_columns_that_32_does_not_divide_are_rounded_to_float16_and_told(tmp_path: Path) -> None:
    model = packed(random_model("Llama", intermediate_size=80), "int4:group32")
    report = write_gguf(model, tmp_path / "model.gguf")
    name = "model.layers.0.mlp.down_proj"
    expected = model.layers[name].weight.dequantize().half().float().numpy()
    np.testing.assert_array_equal(tensors(tmp_path / "model.gguf")["blk.0.ffn_down.weight"], expected)
    assert report.forms["int4:group32 as F16, 16 bits per weight, rounded: columns that 32 does not divide"] == 2


def test_models_that_llama_cpp_computes_otherwise_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with pytest.raises(ModelError, match="activation silu; this model has gelu"):
        write_gguf(packed(random_model("Llama", hidden_act="gelu"), "int4:group32"), path)
    with pytest.raises(ModelError, match="queries are divided by the root of 16, not of 256"):
        write_gguf(packed(random_model("Gemma2", sliding_window=16), "int4:group32"), path)
    with pytest.raises(ModelError, match="models of type 'olmo' have no GGUF form here; those of llama"):
        write_gguf(packed(random_model("Olmo"), "int4:group32"), path)
    rope = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    with pytest.raises(ModelError, match="rope_type 'dynamic' has no GGUF form"):
        write_gguf(packed(random_model("Llama", rope_parameters=rope), "int4:group32"), path)
    with pytest.raises(ModelError, match="language models of transformers"):
        write_gguf(PackedModel(torch.nn.Sequential(), packed(random_model("Llama"), "int4:group32").record), path)


def test_the_destination_tells_sizes_and_types(tmp_path: Path) -> None:
    model = packed(random_model("Llama"), {"q_proj": "int2:group64", "": "int4:group32"})
    row, path = destination("gguf"), tmp_path / "model.gguf"
    written = row.write(Export(model, path, torch.zeros(1, 4, dtype=torch.int64)))
    assert written.nbytes == path.stat().st_size
    assert written.facts["layers"] == {
        "int2:group64 as Q4_0, 4.5 bits per weight": 2,
        "int4:group32 as Q4_0, 4.5 bits per weight": 12,
    }
    assert written.facts["stored_weights"] > written.facts["packed_weights"]
    assert written.facts["tokenizer"] == "none: the file takes tokens as numbers"
    with pytest.raises(RunError, match="is a folder"):
        row.write(Export(model, tmp_path, torch.zeros(1, 4, dtype=torch.int64)))
