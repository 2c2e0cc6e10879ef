"""ChatGLM2, ChatGLM3 and GLM-4 in transformers' GlmForCausalLM, against the published forward pass in NumPy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import eqnet
from eqnet.errors import InputError, RunError
from eqnet.lm.deployed import open_model
from eqnet.lm.generation import generate
from eqnet.lm.glm import read_glm, resharded, write_glm
from eqnet.lm.source import open_source
from eqnet.packed.tensor import PackedTensor
from tests.eqnet.lm.glm.chatglm2 import CONFIG, GROUPS, HEADS, WIDTH, logits, model
from tests.eqnet.lm.glm.checkpoints import dequantized, quantized, save, tensors, write_chatglm

IDS = [5, 9, 1, 60, 33, 2, 17, 17, 40, 8]

CLOSE = 2e-5
"""Of logits around 10: float32 against float64."""


def imported(folder: Path, bits: int = 4, **changes: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """The packed model in float32, and the weights of the published code that it was made of."""
    weights = write_chatglm(folder / "chatglm", model(), {**CONFIG, **changes}, bits)
    write_glm(read_glm(folder / "chatglm"), folder / "packed")
    return eqnet.load(folder / "packed").float(), weights


@pytest.mark.parametrize("bits", [4, 8])
def test_the_logits_are_those_of_the_published_code(bits: int, tmp_path: Path) -> None:
    packed, weights = imported(tmp_path, bits)
    with torch.inference_mode():
        found = packed(input_ids=torch.tensor([IDS])).logits[0].double().numpy()
    expected = logits(weights, IDS)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(found, expected, atol=CLOSE * np.abs(expected).max())


@pytest.mark.parametrize(
    ("changes", "positions"),
    [
        ({"rope_ratio": 50, "_name_or_path": "THUDM/chatglm3-6b-32k"}, {"base": 500_000}),
        ({"rope_ratio": 500, "_name_or_path": "THUDM/glm-4-9b"}, {"base": 5_000_000}),
        ({"rope_ratio": 4, "_name_or_path": "THUDM/chatglm2-6b-32k"}, {"stretch": 4}),
        ({"_name_or_path": "THUDM/chatglm2-6b"}, {}),
    ],
    ids=["ChatGLM3-32k", "GLM-4", "ChatGLM2-32k", "ChatGLM2"],
)
def test_positions_are_stretched_as_each_of_them_does(
    changes: dict[str, Any], positions: dict[str, float], tmp_path: Path
) -> None:
    packed, weights = imported(tmp_path, 8, **changes)
    with torch.inference_mode():
        found = packed(input_ids=torch.tensor([IDS])).logits[0].double().numpy()
    expected = logits(weights, IDS, **positions)
    np.testing.assert_allclose(found, expected, atol=CLOSE * np.abs(expected).max())
    if positions:
        assert np.abs(expected - logits(weights, IDS)).max() > 100 * CLOSE * np.abs(expected).max()


def test_no_code_or_scale_changes(tmp_path: Path) -> None:
    packed, _ = imported(tmp_path)
    stored = read_glm(tmp_path / "chatglm").weights
    qkv = stored["transformer.encoder.layers.1.self_attention.query_key_value.weight"]
    assert isinstance(qkv, PackedTensor)
    parts = [packed.layers[f"model.layers.1.self_attn.{name}_proj"].weight for name in "qkv"]
    assert [part.rows for part in parts] == [HEADS * WIDTH, GROUPS * WIDTH, GROUPS * WIDTH]
    assert torch.equal(torch.cat([part.codes for part in parts]), qkv.codes)
    assert torch.equal(torch.cat([part.scale for part in parts]), qkv.scale)
    assert packed.model.config.model_type == "glm"


def test_the_imported_model_answers(tmp_path: Path) -> None:
    _, weights = imported(tmp_path, 8)
    opened = open_model(tmp_path / "packed")
    found = list(generate(opened.engine, IDS, most=6, stop=frozenset()))
    ids = list(IDS)
    for _ in range(6):
        ids.append(int(logits(weights, ids)[-1].argmax()))
    assert found == ids[len(IDS) :]


def test_parts_share_heads_of_keys_and_values(tmp_path: Path) -> None:
    weights = write_chatglm(tmp_path, model(), CONFIG, 8)
    name = "transformer.encoder.layers.0.self_attention.query_key_value.weight"
    split = resharded(read_glm(tmp_path), 2)
    q, k, v = np.split(weights[name], [HEADS * WIDTH, (HEADS + GROUPS) * WIDTH])
    for rank in range(2):
        part = split.parts[rank][name]
        assert isinstance(part, PackedTensor)
        expected = np.concatenate([np.split(block, 2)[rank] for block in (q, k, v)])
        assert np.array_equal(part.dequantize().numpy(), expected)
    again = resharded(split, 1).weights[name]
    assert isinstance(again, PackedTensor)
    assert np.array_equal(again.dequantize().numpy(), weights[name])
    with pytest.raises(InputError, match="2 heads of keys and values do not divide among them; 1, 2 can"):
        resharded(read_glm(tmp_path), 4)


@pytest.mark.parametrize(
    "changes", [{"rmsnorm": False}, {"post_layer_norm": False}, {"add_bias_linear": True}], ids=lambda c: next(iter(c))
)
def test_what_transformers_does_otherwise_is_refused(changes: dict[str, bool], tmp_path: Path) -> None:
    write_chatglm(tmp_path / "chatglm", model(), {**CONFIG, **changes}, 8)
    key = next(iter(changes))
    with pytest.raises(InputError, match=rf"config.json: {key} is {changes[key]}, for which transformers has no model"):
        write_glm(read_glm(tmp_path / "chatglm"), tmp_path / "packed")


def test_a_tokenizer_travels_along_unless_it_is_code(tmp_path: Path) -> None:
    source = tmp_path / "chatglm"
    write_chatglm(source, model(), CONFIG, 8)
    for name in ("tokenizer_config.json", "generation_config.json", "tokenizer.model"):
        (source / name).write_text("{}")
    write_glm(read_glm(source), tmp_path / "code")
    assert {path.name for path in (tmp_path / "code").glob("*config.json")} == {"config.json", "generation_config.json"}
    (source / "tokenizer.json").write_text("{}")
    write_glm(read_glm(source), tmp_path / "data")
    assert {"tokenizer.json", "tokenizer_config.json"} <= {path.name for path in (tmp_path / "data").iterdir()}


def test_floating_point_becomes_a_folder_of_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {name: value.astype(np.float16) for name, value in model().items()}
    (tmp_path / "glm").mkdir()
    save_file(tensors(stored), tmp_path / "glm" / "model.safetensors")
    (tmp_path / "glm" / "config.json").write_text(json.dumps({**CONFIG, "rope_ratio": 500}))
    monkeypatch.setattr("eqnet.lm.glm.writing.SHARD_BYTES", 10_000)
    (written,) = write_glm(read_glm(tmp_path / "glm"), tmp_path / "out")
    assert (written.architecture, written.layers) == ("GlmForCausalLM", {})
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 1
    expected = logits(model(), IDS, base=5_000_000)
    for opened in (
        open_source(tmp_path / "out").load(),
        AutoModelForCausalLM.from_pretrained(tmp_path / "out").float(),
    ):
        with torch.inference_mode():
            found = opened(input_ids=torch.tensor([IDS])).logits[0].double().numpy()
        np.testing.assert_allclose(found, expected, atol=CLOSE * np.abs(expected).max())
    with pytest.raises(InputError, match="'eqnet import' makes a model of transformers of"):
        open_source(tmp_path / "glm")
    with pytest.raises(RunError, match=r"holds config\.json, .*; choose a new folder"):
        write_glm(read_glm(tmp_path / "glm"), tmp_path / "out")


def test_a_quantized_embedding_stays_quantized(tmp_path: Path) -> None:
    weights = write_chatglm(tmp_path / "chatglm", model(), CONFIG, 4)
    path, name = tmp_path / "chatglm" / "pytorch_model.bin", "transformer.embedding.word_embeddings.weight"
    stored = torch.load(path, weights_only=True)
    table = quantized({"query_key_value.weight": weights[name]}, 4)
    stored |= {name: tensors(table)["query_key_value.weight"]}
    stored |= {f"{name}_scale": tensors(table)["query_key_value.weight_scale"]}
    save(path, stored)
    write_glm(read_glm(tmp_path / "chatglm"), tmp_path / "packed")
    packed = eqnet.load(tmp_path / "packed").float()
    assert str(packed.layers["model.embed_tokens"].weight.format) == "int4:channel"
    weights[name] = dequantized(table, 4)["query_key_value.weight"]
    with torch.inference_mode():
        found = packed(input_ids=torch.tensor([IDS])).logits[0].double().numpy()
    expected = logits(weights, IDS)
    np.testing.assert_allclose(found, expected, atol=CLOSE * np.abs(expected).max())
