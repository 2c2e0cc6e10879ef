"""compressed-tensors: every weight keeps its value, and transformers answers as the packed model does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from eqnet.errors import InputError, ModelError, RunError
from eqnet.export.compressed_tensors import write_compressed_tensors
from eqnet.export.destinations import Export, destination
from eqnet.packed.model import PackedModel
from tests.export.language_models import TOKENS, packed, random_model

HALF = 1e-2
"""Largest error over the largest logit: transformers computes in float16, the packed model in float32."""

FORMATS = {
    "q_proj": "int8:group32", "k_proj": "int8:group32", "v_proj": "int8:group32", "o_proj": "int8:channel",
    "gate_proj": "int4:group64", "up_proj": "int4:group64", "down_proj": "int4:group32",
}  # fmt: skip
"""What vLLM runs, but for zero points."""

POINTS = FORMATS | {"gate_proj": "uint4:group64", "up_proj": "uint4:group64", "down_proj": "uint4:channel"}
"""The same with zero points, which transformers does not load beside other formats."""

ANY = {
    "q_proj": "int2:group16", "k_proj": "uint3:group32", "v_proj": "int5:tensor", "o_proj": "uint6:tensor",
    "gate_proj": "int7:group64", "up_proj": "uint7:group64", "down_proj": "uint2:channel",
}  # fmt: skip
"""What transformers runs beside."""


def decompressed(folder: Path) -> dict[str, torch.Tensor]:
    """Weights of all packed layers of a folder, by the package's own code."""
    config = json.loads((folder / "config.json").read_text())
    schemes = QuantizationConfig.model_validate(config["quantization_config"]).config_groups.values()
    state, found = load_file(folder / "model.safetensors"), {}
    compressor = BaseCompressor.get_value_from_registry("pack-quantized")
    for scheme in schemes:
        for name in scheme.targets:
            parts = {key.removeprefix(f"{name}."): t for key, t in state.items() if key.startswith(f"{name}.")}
            found[name] = compressor.decompress(parts, scheme)["weight"]
    return found


def loaded(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()


def assert_answers(model: PackedModel, folder: Path) -> None:
    ids = torch.randint(0, TOKENS, (2, 24), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = model(ids).logits, loaded(folder)(ids).logits.float()
    assert (found - expected).abs().max() <= HALF * expected.abs().max()


@pytest.mark.parametrize(("formats", "engine"), [(POINTS, "vllm"), (ANY, "transformers")], ids=["vllm", "any"])
def test_every_weight_has_its_value_bit_for_bit(formats: dict[str, str], engine: str, tmp_path: Path) -> None:
    model = packed(random_model("Llama", intermediate_size=128), formats)
    report = write_compressed_tensors(model, tmp_path / "out", engine=engine)
    assert report.loads.startswith("vLLM alone" if engine == "vllm" else "vLLM and transformers")
    found = decompressed(tmp_path / "out")
    assert set(found) == set(model.layers)
    for name, weight in found.items():
        assert weight.dtype == torch.float16
        assert torch.equal(weight, model.layers[name].weight.dequantize().half()), name


@pytest.mark.parametrize("tied", [False, True], ids=["head", "tied head"])
@pytest.mark.parametrize("kind", ["Llama", "Qwen2", "Qwen3", "Gemma", "Glm4"])
def test_transformers_answers_as_the_packed_model(kind: str, tied: bool, tmp_path: Path) -> None:
    formats = {**FORMATS, "gate_up": "int4:group32"}
    model = random_model(kind, intermediate_size=128, tie_word_embeddings=tied)
    model = packed(model, formats, None if kind == "Gemma" else "int6:group16")
    report = write_compressed_tensors(model, tmp_path / "out")
    assert_answers(model, tmp_path / "out")
    if kind != "Gemma":
        assert len(report.dense) == 2 - tied
        assert report.forms["int6:group16, written in float16"] == 2 - tied


def test_transformers_loads_zero_points_of_one_format(tmp_path: Path) -> None:
    model = packed(random_model("Llama"), "uint4:group32")
    assert write_compressed_tensors(model, tmp_path / "out").loads == "vLLM and transformers"
    assert_answers(model, tmp_path / "out")


def test_a_head_stays_packed_for_transformers(tmp_path: Path) -> None:
    model = packed(random_model("Llama", intermediate_size=128), ANY, "int4:group32")
    report = write_compressed_tensors(model, tmp_path / "out", engine="transformers")
    assert list(report.dense) == ["model.embed_tokens"]
    assert "lm_head.weight_packed" in load_file(tmp_path / "out" / "model.safetensors")
    assert report.forms["uint3:group32 as int4:group32"] == 2
    assert_answers(model, tmp_path / "out")


def test_formats_without_kernels_are_refused_with_the_nearest(tmp_path: Path) -> None:
    model = packed(random_model("Llama"), {"down_proj": "int3:group32", "o_proj": "uint8:group32", "": "int4:group32"})
    with pytest.raises(ModelError) as refused:
        write_compressed_tensors(model, tmp_path / "out")
    text = str(refused.value)
    assert "compressed-tensors has no form for 4 of 14 layers" in text
    assert "layers.0.mlp.down_proj in int3:group32" in text
    assert "the nearest that compressed-tensors has is int4:group32" in text
    assert "the nearest that compressed-tensors has is int8:group32" in text
    assert not (tmp_path / "out").exists()


def test_layers_that_vllm_fuses_have_to_share_a_format(tmp_path: Path) -> None:
    model = packed(random_model("Llama"), {"k_proj": "int8:group32", "": "int4:group32"})
    with pytest.raises(ModelError, match="vLLM fuses it with others, and k_proj is int8:group32, v_proj is int4"):
        write_compressed_tensors(model, tmp_path / "out")
    write_compressed_tensors(model, tmp_path / "out", engine="transformers")
    assert_answers(model, tmp_path / "out")


def test_short_groups_and_other_models_are_refused(tmp_path: Path) -> None:
    model = packed(random_model("Llama"), {"down_proj": "int4:group64", "": "int4:group32"})
    with pytest.raises(ModelError, match="96 columns are no whole number of groups"):
        write_compressed_tensors(model, tmp_path / "out", engine="transformers")
    model = packed(random_model("Llama"), "uint8:group32")
    with pytest.raises(ModelError, match="codes less theirs need 9 bits"):
        write_compressed_tensors(model, tmp_path / "out", engine="transformers")
    with pytest.raises(ModelError, match="for language models of transformers"):
        write_compressed_tensors(PackedModel(torch.nn.Sequential(), model.record), tmp_path / "out")
    with pytest.raises(InputError, match="engine 'vlm' is unknown; choose vllm or transformers"):
        write_compressed_tensors(model, tmp_path / "out", engine="vlm")


def test_a_folder_of_its_own_is_replaced_and_no_other(tmp_path: Path) -> None:
    model = packed(random_model("Llama"), "int4:group32")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("do not replace")
    with pytest.raises(RunError, match=r"is not a folder of compressed-tensors \(it holds thesis\.txt\)"):
        write_compressed_tensors(model, tmp_path / "other")
    write_compressed_tensors(model, tmp_path / "out")
    row = destination("compressed-tensors")
    example = torch.zeros(1, 4, dtype=torch.int64)
    written = row.write(Export(model, tmp_path / "out", example, options={"engine": "transformers"}))
    assert written.nbytes == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert written.facts["layers"] == {"int4:group32": 14}
    assert written.facts["computes_in"] == "float16"
