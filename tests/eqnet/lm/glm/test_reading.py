"""What is read of a folder, and what is said of one that cannot be."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from eqnet.errors import InputError, RunError
from eqnet.lm.glm import Kind, read_glm, resharded
from eqnet.packed.tensor import PackedTensor
from tests.eqnet.lm.glm.checkpoints import (
    HEADS,
    HIDDEN,
    INNER,
    LAYERS,
    VOCABULARY,
    quantized,
    save,
    tensors,
    whole_model,
    write_130b,
    write_chatglm,
)


def module_of(folder: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    path = folder / "49300" / f"mp_rank_{rank:02}_model_states.pt"
    module: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["module"]
    return module


def put(folder: Path, module: dict[str, torch.Tensor], rank: int = 0) -> None:
    save(folder / "49300" / f"mp_rank_{rank:02}_model_states.pt", {"module": module})


@pytest.mark.parametrize("bits", [4, 8])
def test_the_sizes_are_those_of_the_whole_model(bits: int, tmp_path: Path) -> None:
    write_130b(tmp_path, 2, bits)
    checkpoint = read_glm(tmp_path)
    sizes = checkpoint.sizes
    assert (checkpoint.kind, checkpoint.degree) == (Kind.GLM_130B, 2)
    assert (sizes.layers, sizes.hidden, sizes.attention, sizes.inner) == (LAYERS, HIDDEN, HIDDEN, INNER)
    assert (sizes.vocabulary, sizes.heads, sizes.groups) == (VOCABULARY, HEADS, None)
    assert (sizes.gated, sizes.bits) == (True, bits)


def test_four_bits_are_read_byte_by_byte(tmp_path: Path) -> None:
    write_130b(tmp_path, 1, 4)
    name = "transformer.layers.0.attention.dense.weight"
    module = module_of(tmp_path)
    module[name] = torch.tensor([0x1F, 0x78, -0x80, 0, 0, 0, 0, 0], dtype=torch.int8).repeat(HIDDEN, 1)
    module[f"{name}_scale"] = torch.full((HIDDEN,), 0.5).half()
    put(tmp_path, module)
    weight = read_glm(tmp_path).weights[name]
    assert isinstance(weight, PackedTensor)
    assert weight.integers()[3].tolist() == [1, -1, 7, -8, -8, *[0] * 11]
    assert weight.dequantize()[3].tolist() == [0.5, -0.5, 3.5, -4, -4, *[0] * 11]
    assert bytes(weight.codes[:4].tolist()).hex(" ") == "79 0f 80 88"


def test_names_of_layers_are_in_order_and_scales_belong_to_their_weight(tmp_path: Path) -> None:
    write_130b(tmp_path, 1, 8)
    names = read_glm(tmp_path).names
    assert not [name for name in names if name.endswith("_scale")]
    first, second = (names.index(f"transformer.layers.{n}.attention.dense.weight") for n in (0, 1))
    assert first < second


def test_the_folder_of_the_files_themselves_will_do(tmp_path: Path) -> None:
    write_130b(tmp_path, 2, 4)
    assert read_glm(tmp_path / "49300").degree == 2


def test_what_is_before_pytorch_1_6_is_read(tmp_path: Path) -> None:
    write_130b(tmp_path, 1, 4)
    module = module_of(tmp_path)
    path = tmp_path / "49300" / "mp_rank_00_model_states.pt"
    torch.save({"module": module}, path, _use_new_zipfile_serialization=False)
    assert set(read_glm(tmp_path).names) == {name for name in module if not name.endswith("_scale")}


def chatglm_model() -> dict[str, np.ndarray]:
    """ChatGLM-6B: no gate, and a head of its own."""
    model = whole_model()
    for layer in range(LAYERS):
        for end in ("weight", "bias"):
            name = f"transformer.layers.{layer}.mlp.dense_h_to_4h.{end}"
            model[name] = model[name][:INNER]
    return model | {"lm_head.weight": model["transformer.word_embeddings.weight"] * 2}


@pytest.mark.parametrize("form", ["bin", "indexed", "safetensors"])
@pytest.mark.parametrize("bits", [4, 8])
def test_chatglm_in_every_form_of_file(bits: int, form: str, tmp_path: Path) -> None:
    expected = write_chatglm(tmp_path, chatglm_model(), {"num_attention_heads": HEADS}, bits)
    if form != "bin":
        stored = tensors(quantized(chatglm_model(), bits))
        (tmp_path / "pytorch_model.bin").unlink()
        if form == "safetensors":
            save_file(stored, tmp_path / "model.safetensors")
        else:
            halves = [dict(list(stored.items())[::2]), dict(list(stored.items())[1::2])]
            files = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
            for file, half in zip(files, halves):
                save(tmp_path / file, half)
            mapped = {name: file for file, half in zip(files, halves) for name in half}
            (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": mapped}))
    checkpoint = read_glm(tmp_path)
    assert (checkpoint.kind, checkpoint.sizes.gated, checkpoint.sizes.heads) == (Kind.CHATGLM, False, HEADS)
    for name, weight in checkpoint.weights.items():
        found = (weight.dequantize() if isinstance(weight, PackedTensor) else weight.float()).numpy()
        assert found.tobytes() == expected[name].tobytes(), name


def test_a_missing_rank_is_named(tmp_path: Path) -> None:
    write_130b(tmp_path, 4, 4)
    path = tmp_path / "49300" / "mp_rank_03_model_states.pt"
    path.unlink()
    with pytest.raises(InputError, match=r"its 3 parts have 12 of 16 columns .* the file of rank 3 is missing"):
        read_glm(tmp_path)
    (tmp_path / "49300" / "mp_rank_01_model_states.pt").unlink()
    with pytest.raises(InputError, match=r"the file of rank 1 is missing \(mp_rank_01_model_states.pt\)"):
        read_glm(tmp_path)


def test_parts_of_two_checkpoints_are_refused(tmp_path: Path) -> None:
    write_130b(tmp_path, 2, 4)
    module, name = module_of(tmp_path, 1), "transformer.layers.1.mlp.dense_4h_to_h.weight"
    put(tmp_path, {**module, name: module[name][:-1]}, 1)
    with pytest.raises(InputError, match=r"dense_4h_to_h.weight' is of shape \(15, 6\) in rank 1 and of \(16, 6\)"):
        read_glm(tmp_path)
    del module[name]
    put(tmp_path, module, 1)
    with pytest.raises(InputError, match=r"rank 0 has '.*dense_4h_to_h.weight', and rank 1 has not"):
        read_glm(tmp_path)


def test_heads_that_are_not_told_are_asked_for(tmp_path: Path) -> None:
    write_130b(tmp_path, 1, 4)
    module = {name: value for name, value in module_of(tmp_path).items() if not name.endswith("inv_freq")}
    put(tmp_path, module)
    checkpoint = read_glm(tmp_path)
    assert checkpoint.sizes.heads is None
    with pytest.raises(InputError, match=r"does not tell how many heads .* \(--heads"):
        resharded(checkpoint, 2)
    assert resharded(read_glm(tmp_path, heads=HEADS), 2).degree == 2
    (tmp_path / "model_config.json").write_text(json.dumps({"num_attention_heads": HEADS}))
    assert resharded(read_glm(tmp_path), 2).degree == 2


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    write_130b(tmp_path, 1, 4)
    path = tmp_path / "49300" / "mp_rank_00_model_states.pt"
    save(path, {"module": module_of(tmp_path), "args": argparse.Namespace(heads=4)})
    with pytest.raises(InputError, match=r"wants to run more than what makes tensors.*Namespace.*safetensors"):
        read_glm(tmp_path)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False], ids=["zipped", "before 1.6"])
def test_nothing_of_a_pickle_is_run(zipped: bool, tmp_path: Path) -> None:
    content = {"module": {"a": torch.ones(2)}, "extra": Touch(tmp_path / "ran")}
    torch.save(content, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError, match="wants to run more than what makes tensors"):
        read_glm(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_missing_layer_is_named(tmp_path: Path) -> None:
    write_130b(tmp_path, 1, 4)
    put(tmp_path, {name: value for name, value in module_of(tmp_path).items() if ".layers.0." not in name})
    with pytest.raises(InputError, match=r"its model has 2 layers, and layer 0 is missing"):
        read_glm(tmp_path)
    write_chatglm(tmp_path / "6b", chatglm_model(), {"num_attention_heads": HEADS, "num_layers": 3}, 8)
    with pytest.raises(InputError, match=r"its model has 3 layers, and layer 2 is missing"):
        read_glm(tmp_path / "6b")


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    write_130b(tmp_path, 1, 4)
    path = tmp_path / "49300" / "mp_rank_00_model_states.pt"
    data = path.read_bytes()
    for broken in (b"", data[: len(data) // 2], b"nothing"):
        path.write_bytes(broken)
        with pytest.raises((RunError, InputError), match=r"mp_rank_00_model_states.pt: "):
            read_glm(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no checkpoint of a GLM"),
        ({"latest": "7"}, "latest: names '7', which is no folder beside it"),
        ({"latest": "../7"}, "which is no folder beside it"),
        ({"pytorch_model.bin.index.json": '{"weight_map": {"a": "x.bin"}}'}, r"x.bin: is missing, .*1 of 1"),
        ({"pytorch_model.bin.index.json": '{"weight_map": {"a": "../x.bin"}}'}, "does not say in which files"),
        ({"pytorch_model.bin.index.json": "{}"}, "does not say in which files"),
    ],
    ids=["empty", "latest", "outside", "missing", "index outside", "index"],
)
def test_what_is_no_checkpoint_is_refused(files: dict[str, str], message: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_glm(tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        read_glm(tmp_path / "none")


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "pytorch_model.bin", {"model.embed_tokens.weight": torch.ones(2, 2)})
    with pytest.raises(InputError, match=r"has no tensor '...query_key_value.weight', so it is no checkpoint of"):
        read_glm(tmp_path)


def test_bits_that_do_not_agree_are_refused(tmp_path: Path) -> None:
    write_chatglm(tmp_path, chatglm_model(), {"num_attention_heads": HEADS}, 4)
    (tmp_path / "config.json").write_text(json.dumps({"num_attention_heads": HEADS, "quantization_bit": 8}))
    with pytest.raises(InputError, match=r"has 8 bytes a row for 16 weights, and config.json says 8 bits"):
        read_glm(tmp_path)


def test_floating_point_is_read_as_it_is(tmp_path: Path) -> None:
    model = {name: value.astype(np.float16) for name, value in whole_model().items()}
    save(tmp_path / "mp_rank_00_model_states.pt", {"module": tensors(model)})
    checkpoint = read_glm(tmp_path)
    assert checkpoint.sizes.bits is None
    for name, weight in checkpoint.weights.items():
        assert torch.equal(weight, torch.from_numpy(model[name]))  # type: ignore[arg-type]
