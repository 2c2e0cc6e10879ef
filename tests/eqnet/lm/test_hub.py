"""Transformers loads eqnet's artifacts, and what it loads is what eqnet.load gives."""

from __future__ import annotations

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

import eqnet
from eqnet.errors import EqnetError, InputError, RunError
from eqnet.lm.hub import packed_of
from eqnet.lm.source import open_source
from eqnet.packed.layers import PackedEmbedding, PackedLinear
from tests.eqnet.lm.models import CONFIGS, packed_model, random_ids, random_model


def saved(folder: Path, name: str = "llama-tied") -> Path:
    """An artifact of a random model."""
    random_model(name).save_pretrained(folder / "float")
    packed_model(open_source(folder / "float")).save(folder / "packed")
    return folder / "packed"


def logits(model: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(ids).logits
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_gives_the_logits_of_eqnet_load(name: str, tmp_path: Path) -> None:
    folder = saved(tmp_path, name)
    model = AutoModelForCausalLM.from_pretrained(folder)
    expected = eqnet.load(folder)
    ids = random_ids(2, 9)
    assert torch.equal(logits(model, ids), logits(expected, ids))
    assert isinstance(model.get_input_embeddings(), PackedEmbedding)
    assert isinstance(model.get_output_embeddings(), PackedLinear)
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    assert not model.training


def test_a_type_that_was_left_open_is_that_of_the_weights(tmp_path: Path) -> None:
    """As GGUF files leave it open; the first tensor of the artifact that has one is a scale in float16."""
    random_model("llama").save_pretrained(tmp_path / "float")
    source = open_source(tmp_path / "float")
    source.config.dtype = None
    packed = packed_model(source)
    packed.save(tmp_path / "packed")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "packed")
    ids = random_ids(2, 9)
    assert torch.equal(logits(model, ids), logits(packed, ids))


def test_generates_what_the_packed_model_generates(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    settings = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    ids = random_ids(1, 5)
    expected = eqnet.load(folder).model.generate(ids, **settings)  # type: ignore[operator, union-attr]
    assert torch.equal(AutoModelForCausalLM.from_pretrained(folder).generate(ids, **settings), expected)


@pytest.mark.parametrize("order", ["eqnet, transformers", "transformers, eqnet", "eqnet, eqnet.lm.hub, transformers"])
def test_importing_eqnet_is_all_that_it_takes(order: str, tmp_path: Path) -> None:
    folder = saved(tmp_path)
    code = (
        f"import {order}\n"
        f"model = transformers.AutoModelForCausalLM.from_pretrained({str(folder)!r})\n"
        "print(type(model.lm_head).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "PackedLinear\n"


def test_a_tied_head_is_stored_once(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved(tmp_path))
    assert model.lm_head.codes is model.model.embed_tokens.codes
    assert "lm_head.codes" in packed_of(model).tied()


def test_another_type_is_followed(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    ids = random_ids(1, 5)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32
    expected: Any = eqnet.load(folder)
    frequencies = expected.model.model.rotary_emb.inv_freq
    expected.bfloat16().model.model.rotary_emb.inv_freq = frequencies
    assert torch.equal(logits(model, ids), logits(expected, ids))


def test_a_device_is_followed_and_several_are_refused(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(folder, device_map="cpu").device == torch.device("cpu")
    with pytest.raises(InputError, match="device_map has 2 devices"):
        AutoModelForCausalLM.from_pretrained(folder, device_map={"model": "cpu", "lm_head": "meta"})


def test_a_copy_computes_the_same(tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(saved(tmp_path))
    ids = random_ids(1, 5)
    assert torch.equal(logits(copy.deepcopy(model), ids), logits(model, ids))


def test_it_is_saved_as_an_artifact(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    ids = random_ids(1, 5)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    assert torch.equal(logits(again, ids), logits(model, ids))
    assert eqnet.load(tmp_path / "again").record == eqnet.load(folder).record
    assert (tmp_path / "again" / "generation_config.json").is_file()
    with pytest.raises(InputError, match="without push_to_hub"):
        model.save_pretrained(tmp_path / "there", push_to_hub=True)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"model\.safetensors: tensor '.*' is damaged"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_a_model_of_another_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EqnetError, match="LlamaModel has no module 'lm_head'"):
        AutoModel.from_pretrained(saved(tmp_path))


def test_packing_on_the_way_is_refused(tmp_path: Path) -> None:
    from eqnet.lm.hub import EqnetConfig

    random_model("llama").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="packs no model while it is loaded"):
        AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=EqnetConfig())


def test_a_model_in_floating_point_has_no_packed_one() -> None:
    with pytest.raises(InputError, match="was not loaded from an artifact"):
        packed_of(random_model("llama"))
