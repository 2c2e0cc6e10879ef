"""A decoder of files is that of the model that transformers builds of them, in no more memory than it must take."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import eqnet
from eqnet.errors import InputError, RunError
from eqnet.lm.decoder import Decoder, UnknownBlockError
from eqnet.lm.decoder.files import open_decoder
from eqnet.lm.decoder.model import decoder_of
from eqnet.lm.deployed import open_model
from eqnet.lm.engine import TransformersEngine
from eqnet.packed.artifact import Artifact, write_artifact
from eqnet.packed.model import PackedModel
from tests.eqnet.lm.decoder.packed import KNOWN, packed
from tests.eqnet.lm.models import random_ids

LENGTH = 24

ULP = 2.0**-23
"""Of frequencies, which are powers: PyTorch's are rounded otherwise now and then, and differ between machines."""

BESIDE = 120e6
"""Bytes that generating takes at most beside the files: Python, NumPy and eqnet are half of it."""


@functools.cache
def model(name: str) -> PackedModel:
    return packed(KNOWN[name]())


def opened(made: PackedModel, folder: Path, **how: Any) -> Decoder:
    made.save(folder)
    return open_decoder(Artifact.open(folder), threads=1, **how)


def assert_same(found: Decoder, made: PackedModel) -> None:
    """All that is computed is alike to the last bit, once frequencies are."""
    expected, ids = decoder_of(made), random_ids(LENGTH).numpy()
    for one, other in zip(found.blocks.rotations, expected.blocks.rotations, strict=True):
        np.testing.assert_allclose(one.frequencies, other.frequencies, rtol=ULP, atol=0)
        assert (one.scale, one.interleaved) == (other.scale, other.interleaved)
    expected.blocks = replace(expected.blocks, rotations=found.blocks.rotations)
    expected.compute = found.compute
    np.testing.assert_array_equal(found.session(LENGTH).feed_all(ids), expected.session(LENGTH).feed_all(ids))
    assert (str(found), found.vocabulary, found.context) == (str(expected), expected.vocabulary, expected.context)


@pytest.mark.parametrize("name", KNOWN)
def test_it_is_that_of_the_model(name: str, tmp_path: Path) -> None:
    assert_same(opened(model(name), tmp_path), model(name))
    assert_same(open_decoder(Artifact.open(tmp_path), compute="int8"), model(name))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_embeddings_have_the_precision_of_the_model(name: str, dtype: str, tmp_path: Path) -> None:
    made = packed(KNOWN[name]())
    layers = {path: replace(layer, dtype=dtype) for path, layer in made.record.layers.items()}
    made.record = replace(made.record, layers=layers)
    for layer in made.layers.values():
        layer.dtype = getattr(torch, dtype)
    found = opened(made, tmp_path)
    assert_same(found, made)
    assert not np.array_equal(
        found.blocks.table.rows(np.arange(9)), decoder_of(model(name)).blocks.table.rows(np.arange(9))
    )


def test_norms_in_other_types_and_several_shards_are_read(tmp_path: Path) -> None:
    made = packed(KNOWN["qwen3"]())
    made.model.model.norm.bfloat16()
    made.model.model.layers[0].input_layernorm.half()
    artifact_of(made, tmp_path, shard_bytes=20_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert_same(open_decoder(Artifact.open(tmp_path)), made)


def artifact_of(made: PackedModel, folder: Path, **how: Any) -> None:
    """Writes an artifact that ``save`` writes, in smaller shards or with changes."""
    made.save(folder / "whole")
    artifact = Artifact.open(folder / "whole")
    config, tensors = dict(artifact.config), {name: artifact.tensor(name) for name in artifact.names}
    change: Callable[[dict[str, Any], dict[str, Any]], None] = how.pop("change", lambda config, tensors: None)
    change(config, tensors)
    write_artifact(folder / "changed", config, tensors, **how)
    for path in (folder / "changed").iterdir():
        path.rename(folder / path.name)


def _entry(**entries: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda config, tensors: config.update(entries)


def _tensor(config: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["model.layers.0.self_attn.sinks"] = torch.ones(4)


def _beside(config: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["model.scales.weight"] = torch.ones(4)


def _layers(config: dict[str, Any], tensors: dict[str, Any]) -> None:
    config["num_hidden_layers"] = 1


def _norm(config: dict[str, Any], tensors: dict[str, Any]) -> None:
    del tensors["model.norm.weight"]


def _bias(config: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["lm_head.bias"] = torch.ones(5)


def _static(config: dict[str, Any], tensors: dict[str, Any]) -> None:
    config["quantization_config"]["layers"]["lm_head"]["input"] = "uint8:tensor"


def _shape(config: dict[str, Any], tensors: dict[str, Any]) -> None:
    config["quantization_config"]["layers"]["model.layers.0.mlp.up_proj"]["shape"] = [96, 32]


def _remade(config: dict[str, Any], tensors: dict[str, Any]) -> None:
    config["quantization_config"]["remade"]["model.rotary_emb.inv_freq"] = "bfloat16"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_entry(architectures=["OPTForCausalLM"]), "none of LlamaForCausalLM, "),
        (_entry(model_type="mistral"), "of type 'mistral' is none of"),
        (_entry(rope_parameters={"rope_type": "dynamic"}), "positions are of type 'dynamic'"),
        (_entry(rope_parameters={"rope_type": "llama3", "rope_theta": 1e4}), "are not described whole"),
        (
            _entry(rope_parameters={"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}),
            "a part of",
        ),
        (_entry(rope_parameters=None), "rope_parameters are None"),
        (_entry(hidden_act="relu"), "hidden_act is 'relu'"),
        (_entry(use_bidirectional_attention=True), "still to come"),
        (_entry(num_key_value_heads=4), "do not fit each other"),
        (_entry(rms_norm_eps=None), "not as the family's is"),
        (_entry(vocab_size=97), "the head has 96 tokens of 64"),
        (_tensor, "other modules than those of its family: sinks"),
        (_beside, r"'model\.scales\.weight' is no part of its family"),
        (_layers, "num_hidden_layers are 1; there are 2"),
        (_entry(head_dim=1 << 40), "heads are 1099511627776 wide"),
        (_entry(num_attention_heads=0, head_dim=None), "not as the family's is"),
        (_norm, "there is no 'model.norm.weight'"),
        (_bias, "has a bias in float32 of shape"),
        (_static, "no Linear with inputs in floating point"),
        (_shape, "codes: expected uint8 of shape|scale: expected"),
        (_remade, "positions in another type"),
    ],
)
def test_what_is_not_known_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    artifact_of(packed(KNOWN["llama"]()), tmp_path, change=change)
    with pytest.raises(UnknownBlockError, match=words):
        open_decoder(Artifact.open(tmp_path))


def test_what_is_refused_is_left_to_transformers(tmp_path: Path) -> None:
    artifact_of(packed(KNOWN["llama"]()), tmp_path, change=_entry(hidden_act="relu"))
    found = open_model(tmp_path)
    assert isinstance(found.engine, TransformersEngine)
    assert isinstance(found.model, PackedModel)
    artifact_of(packed(KNOWN["llama"]()), tmp_path / "other", change=_tensor)
    with pytest.raises(RunError, match=r"has no place for tensor 'model\.layers\.0\.self_attn\.sinks'"):
        open_model(tmp_path / "other")


def test_every_tensor_is_checked(tmp_path: Path) -> None:
    made = model("llama with biases")
    made.save(tmp_path)
    whole, names = (tmp_path / "model.safetensors").read_bytes(), Artifact.open(tmp_path).specs
    ends = (
        np.cumsum([0, *(spec.nbytes for spec in names.values())]) + len(whole) - sum(s.nbytes for s in names.values())
    )
    for name, end in zip(names, ends[1:], strict=True):
        data = bytearray(whole)
        data[end - 1] ^= 1
        (tmp_path / "model.safetensors").write_bytes(data)
        with pytest.raises(RunError, match=rf"tensor '{name}' is damaged"):
            open_decoder(Artifact.open(tmp_path))


def test_what_cannot_be_asked_for_is_refused(tmp_path: Path) -> None:
    model("llama").save(tmp_path)
    with pytest.raises(InputError, match="context of 65 tokens"):
        open_decoder(Artifact.open(tmp_path), context=65)
    with pytest.raises(InputError, match="compute='int4' is unknown"):
        open_decoder(Artifact.open(tmp_path), compute="int4")
    with pytest.raises(IndexError, match="table of 96 rows"):
        open_decoder(Artifact.open(tmp_path)).session(2).feed([96])


_GENERATES = """
import sys
from pathlib import Path
from eqnet.bench.fresh import peak_memory
from eqnet.lm.deployed import open_model
from eqnet.lm.generation import generate
list(generate(open_model(Path(sys.argv[1]), threads=1).engine, [1, 2, 3], most=4))
assert not {"torch", "transformers"} & set(sys.modules)
print(peak_memory())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory otherwise")
def test_weights_are_in_memory_once(tmp_path: Path) -> None:
    config = KNOWN["llama"]()
    config.vocab_size, config.hidden_size, config.intermediate_size, config.num_hidden_layers = 20_000, 1024, 8192, 2
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 16, 16, 64
    packed(config).save(tmp_path)
    files = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert files > 50e6
    ran = subprocess.run([sys.executable, "-c", _GENERATES, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) < files + BESIDE


def test_the_model_itself_runs_as_well(tmp_path: Path) -> None:
    model("qwen2").save(tmp_path)
    assert_same(open_decoder(Artifact.open(tmp_path)), eqnet.load(tmp_path))
