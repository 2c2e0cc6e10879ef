"""Language models opened from their folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import transformers

import eqnet
from eqnet.errors import InputError, RunError
from eqnet.lm.deployed import is_packed_language_model, open_model
from tests.eqnet.lm.packed_models import BYTES, END, byte_tokenizer, save_byte_model
from tests.eqnet.packed.models import trained


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_byte_model(tmp_path_factory.mktemp("byte") / "packed")


def test_a_packed_model_comes_with_tokenizer_and_ends(folder: Path) -> None:
    assert is_packed_language_model(folder)
    opened = open_model(folder, compute="int8", context=100)
    assert opened.model is None, "the decoder takes the files themselves"
    assert str(opened.engine) == "LlamaForCausalLM on eqnet's own kernels, compute=int8"
    assert (opened.engine.context, opened.engine.vocabulary) == (100, BYTES)
    assert opened.stop == {END}
    assert opened.tokenizer("ab").input_ids == [97, 98]


def test_a_model_in_floating_point_is_opened_too(tmp_path: Path) -> None:
    save_byte_model(tmp_path, packed=False)
    assert not is_packed_language_model(tmp_path)
    opened = open_model(tmp_path)
    assert isinstance(opened.model, transformers.LlamaForCausalLM)
    assert opened.tokenizer.decode([97]) == "a"
    assert "float32" in str(opened.engine)


def test_the_generation_config_says_what_ends_a_text(tmp_path: Path) -> None:
    save_byte_model(tmp_path)
    transformers.GenerationConfig(eos_token_id=[7, 9]).save_pretrained(tmp_path)
    assert open_model(tmp_path).stop == {7, 9}
    (tmp_path / "generation_config.json").write_text("{")
    with pytest.raises(InputError, match=r"generation_config\.json: cannot be read"):
        open_model(tmp_path)


def test_without_a_tokenizer_there_is_none(tmp_path: Path) -> None:
    save_byte_model(tmp_path)
    for path in tmp_path.glob("token*"):
        path.unlink()
    assert open_model(tmp_path).tokenizer is None
    byte_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="its tokenizer cannot be read"):
        open_model(tmp_path)


def test_what_is_no_language_model_is_refused(tmp_path: Path) -> None:
    network, x = trained("digits")
    supernet = eqnet.elasticize(network, eqnet.Choices.parse("w=4 a=8"), x)
    supernet.calibrate([x])
    eqnet.pack(supernet, supernet.space.draw(np.random.default_rng(0))).save(tmp_path)
    assert not is_packed_language_model(tmp_path)
    with pytest.raises(InputError, match=r"which is no language model; eqnet run takes other networks"):
        open_model(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        open_model(tmp_path / "nothing")


def test_a_damaged_artifact_is_named(folder: Path, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-100] ^= 1
    weights.write_bytes(bytes(data))
    with pytest.raises(RunError, match=r"model\.safetensors: tensor .* is damaged"):
        open_model(tmp_path)
