"""Checkpoints for other numbers of processes, against NumPy's sharing of what they compute with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from eqnet.errors import InputError
from eqnet.lm.glm import GlmCheckpoint, Weight, read_glm, resharded
from eqnet.packed.tensor import PackedTensor
from tests.eqnet.lm.glm.checkpoints import save, share, unite, write_130b

BLOCK = "transformer.layers.1."


def value(weight: Weight) -> np.ndarray:
    """In float32."""
    return (weight.dequantize() if isinstance(weight, PackedTensor) else weight.float()).numpy()


def same(found: GlmCheckpoint, expected: list[dict[str, np.ndarray]]) -> None:
    assert found.degree == len(expected)
    for rank, (part, values) in enumerate(zip(found.parts, expected, strict=True)):
        assert set(part) == set(values)
        for name, weight in part.items():
            assert value(weight).tobytes() == values[name].tobytes(), f"{name} of rank {rank}"


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("before", "after"), [(1, 1), (1, 2), (1, 4), (2, 1), (2, 4), (4, 1), (4, 2), (4, 4)])
def test_every_weight_is_numpys(bits: int, before: int, after: int, tmp_path: Path) -> None:
    parts = write_130b(tmp_path, before, bits)
    whole = unite(parts)
    checkpoint = read_glm(tmp_path)
    assert checkpoint.degree == before
    same(resharded(checkpoint, after), [share(whole, rank, after) for rank in range(after)])


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("way", [(2, 4, 2), (1, 2, 1), (2, 1, 2), (4, 2, 4), (4, 1, 4), (1, 4, 2, 1)], ids=str)
def test_there_and_back_is_what_it_was(bits: int, way: tuple[int, ...], tmp_path: Path) -> None:
    write_130b(tmp_path, way[0], bits)
    first = found = read_glm(tmp_path)
    for degree in way[1:]:
        found = resharded(found, degree)
    for part, again in zip(first.parts, found.parts, strict=True):
        for name, weight in part.items():
            back = again[name]
            if isinstance(weight, PackedTensor):
                assert isinstance(back, PackedTensor)
                assert (back.format, back.rows, back.cols) == (weight.format, weight.rows, weight.cols), name
                assert torch.equal(back.codes, weight.codes)
                assert torch.equal(back.scale, weight.scale)
            else:
                assert torch.equal(back, weight)  # type: ignore[arg-type]


def by_hand(folder: Path, **changed: tuple[torch.Tensor, torch.Tensor]) -> GlmCheckpoint:
    """Two processes with 8 bits, hidden 4, 2 heads of 2, inner 2: rank 1's codes are those of rank 0 plus 50."""
    for rank in range(2):
        codes = {
            "attention.query_key_value": torch.arange(24).view(6, 4),
            "attention.dense": torch.arange(8).view(4, 2),
            "mlp.dense_h_to_4h": torch.arange(8).view(2, 4),
            "mlp.dense_4h_to_h": torch.arange(4).view(4, 1),
        }
        part: dict[str, torch.Tensor] = {
            "transformer.word_embeddings.weight": torch.full((3, 4), float(rank)).half(),
            "transformer.final_layernorm.weight": torch.ones(4).half(),
            "transformer.layers.0.attention.rotary_emb.inv_freq": torch.ones(1).half(),
            "transformer.layers.0.mlp.dense_h_to_4h.bias": torch.tensor([1.0 + rank, 10.0 + rank]).half(),
        }
        for path, code in codes.items():
            part[f"transformer.layers.0.{path}.weight"] = (code + 50 * rank).to(torch.int8)
            part[f"transformer.layers.0.{path}.weight_scale"] = torch.full((len(code),), 1.0 + rank).half()
        save(folder / f"mp_rank_{rank:02}_model_states.pt", {"module": part})
    return read_glm(folder)


def test_halves_of_the_gated_layer_stay_halves(tmp_path: Path) -> None:
    merged = resharded(by_hand(tmp_path), 1).weights
    weight = merged["transformer.layers.0.mlp.dense_h_to_4h.weight"]
    assert isinstance(weight, PackedTensor)
    # Value rows of rank 0 and 1, then gate rows of rank 0 and 1.
    assert weight.integers().tolist() == [[0, 1, 2, 3], [50, 51, 52, 53], [4, 5, 6, 7], [54, 55, 56, 57]]
    assert weight.scale.tolist() == [[1], [2], [1], [2]]
    assert merged["transformer.layers.0.mlp.dense_h_to_4h.bias"].tolist() == [1, 2, 10, 11]  # type: ignore[union-attr]


def test_columns_of_each_part_keep_their_scale_as_a_group(tmp_path: Path) -> None:
    weight = resharded(by_hand(tmp_path), 1).weights["transformer.layers.0.attention.dense.weight"]
    assert isinstance(weight, PackedTensor)
    assert str(weight.format) == "int8:group2"
    assert weight.integers().tolist() == [[0, 1, 50, 51], [2, 3, 52, 53], [4, 5, 54, 55], [6, 7, 56, 57]]
    assert weight.scale.tolist() == [[1, 2]] * 4
    assert weight.dequantize()[0].tolist() == [0, 1, 100, 102]


def test_a_part_that_is_split_repeats_its_scale(tmp_path: Path) -> None:
    write_130b(tmp_path, 2, 4)
    checkpoint = read_glm(tmp_path)
    name = f"{BLOCK}mlp.dense_4h_to_h.weight"
    before, pieces = checkpoint.parts[1][name], [resharded(checkpoint, 4).parts[rank][name] for rank in (2, 3)]
    for piece in pieces:
        assert isinstance(piece, PackedTensor)
        assert isinstance(before, PackedTensor)
        assert str(piece.format) == "int4:channel"
        assert torch.equal(piece.scale, before.scale)


def test_an_outline_is_the_weight_without_its_codes(tmp_path: Path) -> None:
    write_130b(tmp_path, 4, 4)
    part = resharded(read_glm(tmp_path), 2).parts[0]
    for name in part:
        weight, outline = part[name], part.outline(name)
        if isinstance(weight, PackedTensor):
            assert isinstance(outline, PackedTensor)
            assert outline.codes.is_meta
            assert (outline.format, outline.rows, outline.cols) == (weight.format, weight.rows, weight.cols)
            assert torch.equal(outline.scale, weight.scale)


@pytest.mark.parametrize(
    ("degree", "message"),
    [
        (0, "0 processes cannot share a model"),
        (3, r"3 processes .* its 4 heads do not divide among them; 1, 2, 4 can"),
        (8, r"8 processes .* its 4 heads do not divide among them; 1, 2, 4 can"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(degree: int, message: str, tmp_path: Path) -> None:
    write_130b(tmp_path, 2, 4)
    with pytest.raises(InputError, match=message):
        resharded(read_glm(tmp_path), degree)


def test_half_a_byte_cannot_be_split_off(tmp_path: Path) -> None:
    parts = write_130b(tmp_path, 1, 4)
    part = {name: torch.from_numpy(array.copy()) for name, array in parts[0].items()}
    for layer in range(2):
        for end, rows, cols in (("mlp.dense_h_to_4h", 20, 8), ("mlp.dense_4h_to_h", 16, 5)):  # 10 inner columns
            name = f"transformer.layers.{layer}.{end}.weight"
            part |= {name: torch.ones(rows, cols).char(), f"{name}_scale": torch.ones(rows).half()}
        for end, rows in (("attention.query_key_value", 48), ("attention.dense", 16)):
            name = f"transformer.layers.{layer}.{end}.weight"
            part |= {name: torch.ones(rows, 8).char(), f"{name}_scale": torch.ones(rows).half()}
    save(tmp_path / "49300" / "mp_rank_00_model_states.pt", part)
    with pytest.raises(InputError, match="10 columns of 4 bits do not divide among them at whole bytes; 1 can"):
        resharded(read_glm(tmp_path), 2)


def test_a_tensor_of_another_model_is_refused(tmp_path: Path) -> None:
    write_130b(tmp_path, 2, 4)
    for rank in range(2):
        path = tmp_path / "49300" / f"mp_rank_{rank:02}_model_states.pt"
        module = torch.load(path, weights_only=True)["module"]
        module["transformer.prefix.weight"] = torch.ones(2)
        save(path, {"module": module})
    with pytest.raises(InputError, match=r"'transformer.prefix.weight' is no tensor of GLM-130B"):
        resharded(read_glm(tmp_path), 1)
