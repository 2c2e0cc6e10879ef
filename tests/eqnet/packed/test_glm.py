"""Weights of GLM come over as they are: byte by byte, and as their own arithmetic reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eqnet import InputError
from eqnet.packed.glm import import_glm, import_glm_layers


def dequantized(weight: NDArray[np.int8], scale: NDArray[np.float16], bits: int) -> NDArray[np.float32]:
    """What GLM computes with, one code after the other."""
    rows, stored = weight.shape
    result = np.empty((rows, stored * 8 // bits), np.float32)
    for row in range(rows):
        for column in range(result.shape[1]):
            code = int(weight[row, column * bits // 8])
            if bits == 4:
                half = (code & 255) >> 4 if column % 2 == 0 else code & 15
                code = half - 16 if half >= 8 else half
            result[row, column] = np.float32(scale[row]) * np.float32(code)
    return result


def test_four_bits_byte_by_byte() -> None:
    weight = torch.tensor([[0x1F, 0x78], [-0x80, 0x00]], dtype=torch.int8)  # 1 -1 7 -8, and -8 0 0 0
    packed = import_glm(weight, torch.tensor([0.5, 2.0]).half(), 4)
    assert packed.integers().tolist() == [[1, -1, 7, -8], [-8, 0, 0, 0]]
    assert bytes(packed.codes.tolist()).hex(" ") == "79 0f 80 88"
    assert packed.dequantize().tolist() == [[0.5, -0.5, 3.5, -4], [-16, 0, 0, 0]]
    assert (str(packed.format), packed.rows, packed.cols) == ("int4:channel", 2, 4)


def test_eight_bits_byte_by_byte() -> None:
    packed = import_glm(torch.tensor([[-128, 127, 0]], dtype=torch.int8), torch.tensor([0.25]).half(), 8)
    assert packed.integers().tolist() == [[-128, 127, 0]]
    assert bytes(packed.codes.tolist()).hex(" ") == "00 ff 80"
    assert packed.dequantize().tolist() == [[-32, 31.75, 0]]
    assert (str(packed.format), packed.rows, packed.cols) == ("int8:channel", 1, 3)


@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (3, 0), (7, 129), (16, 16)], ids=str)
@pytest.mark.parametrize("bits", [4, 8])
def test_every_value_is_glms_own(bits: int, shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(bits)
    weight = generator.integers(-128, 128, shape).astype(np.int8)
    scale = generator.uniform(1e-4, 3, shape[0]).astype(np.float16)
    packed = import_glm(torch.from_numpy(weight), torch.from_numpy(scale), bits)
    assert packed.dequantize().numpy().tobytes() == dequantized(weight, scale, bits).tobytes()
    assert packed.nbytes == weight.nbytes + scale.nbytes


def test_every_byte_of_four_bits() -> None:
    weight = np.arange(-128, 128).astype(np.int8).reshape(2, 128)
    scale = np.ones(2, np.float16)
    packed = import_glm(torch.from_numpy(weight), torch.from_numpy(scale), 4)
    assert np.array_equal(packed.dequantize().numpy(), dequantized(weight, scale, 4))


def test_what_is_not_contiguous_and_a_row_of_zeros() -> None:
    weight = torch.arange(-12, 12, dtype=torch.int8).view(4, 6).t()[::2]
    scale = torch.tensor([1.0, 9.0, 0.0, 9.0, 2.0]).half()[::2]
    packed = import_glm(weight, scale, 4)
    assert np.array_equal(packed.dequantize().numpy(), dequantized(weight.numpy(), scale.numpy(), 4))


def test_the_layers_of_a_checkpoint_are_found_by_name() -> None:
    codes, scale = torch.ones(2, 3, dtype=torch.int8), torch.ones(2).half()
    tensors = {
        "layers.0.qkv.weight": codes,
        "layers.0.qkv.weight_scale": scale,
        "layers.0.qkv.bias": torch.zeros(2).half(),
        "layers.0.norm.weight": torch.ones(2).half(),
        "layers.1.mlp.weight": -codes,
        "layers.1.mlp.weight_scale": scale,
    }
    layers = import_glm_layers(tensors, 8)
    assert {path: layer.dequantize().tolist() for path, layer in layers.items()} == {
        "layers.0.qkv": [[1] * 3] * 2,
        "layers.1.mlp": [[-1] * 3] * 2,
    }
    del tensors["layers.1.mlp.weight"]
    with pytest.raises(InputError, match=r"layers.1.mlp.weight_scale: there is no layers.1.mlp.weight beside it"):
        import_glm_layers(tensors, 8)
    tensors["layers.1.mlp.weight"] = codes.half()
    with pytest.raises(InputError, match=r"layers.1.mlp.weight: expected int8 .* found float16 of shape \(2, 3\)"):
        import_glm_layers(tensors, 8)
    with pytest.raises(InputError, match="not quantized weights of GLM"):
        import_glm_layers({"a.weight": codes}, 8)


@pytest.mark.parametrize(
    ("weight", "scale", "bits", "message"),
    [
        (torch.ones(2, 3).char(), torch.ones(2).half(), 3, "fc: GLM's weights of 3 bits"),
        (torch.ones(2, 3).byte(), torch.ones(2).half(), 4, r"fc: expected int8 .* found uint8 of shape \(2, 3\)"),
        (torch.ones(6).char(), torch.ones(6).half(), 4, r"fc: expected int8 of two dimensions.* \(6,\)"),
        (torch.ones(2, 3).char(), torch.ones(3).half(), 4, r"fc: the scale of its 2 rows .* float16 of shape \(3,\)"),
        (torch.ones(2, 3).char(), torch.ones(2, 1).half(), 8, r"fc: the scale of its 2 rows .* \(2, 1\)"),
        (torch.ones(2, 3).char(), torch.ones(2).double(), 8, "fc: the scale of its 2 rows .* float64"),
        (torch.ones(2, 3).char(), torch.tensor([1, -1]).half(), 8, "fc: a scale is negative or not finite"),
        (torch.ones(2, 3).char(), torch.tensor([1, torch.nan]).half(), 8, "fc: a scale is negative or not finite"),
    ],
    ids=["bits", "unsigned", "flat", "rows", "column", "type", "negative", "NaN"],
)
def test_what_is_not_glms_is_refused(weight: torch.Tensor, scale: torch.Tensor, bits: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        import_glm(weight, scale, bits, name="fc")


def test_more_bytes_than_one_block() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randint(-128, 128, (5, 70_000), dtype=torch.int8, generator=generator)
    packed = import_glm(weight, torch.ones(5).half(), 4)
    expected = torch.stack([weight >> 4, (weight << 4) >> 4], 2).view(5, -1)
    assert torch.equal(packed.integers(), expected.short())
