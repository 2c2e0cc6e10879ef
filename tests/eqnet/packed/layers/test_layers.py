"""Every packed layer against torch's own layer on the same numbers, quantized by hand."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eqnet
from eqnet import Format, InputError, LayerFormat
from eqnet.layers import ELASTIC
from eqnet.packed.layers import PACKED, InputRange, PackedLayer, PackedLinear
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor
from tests.eqnet.packed.kinds import FORMATS, KINDS, calibrated, made

INPUT = Format.parse("uint3:tensor")
SCALE, ZERO = 0.2, 2

SUMS = 2e-6
"""Largest error of a linear layer over its largest output: float32 sums of at most 43 products in two orders."""

BFLOAT16 = 2**-6
"""The same where torch rounds weights, inputs and outputs to 8 bits of significand, and the kernels the outputs."""


def packed(name: str, weight: Format, *, quantized_input: bool) -> tuple[PackedLayer, nn.Module, Tensor]:
    """The packed layer, torch's own one with the dequantized weight, and an input."""
    layer, x = made(name)
    matrix = ELASTIC[type(layer)].to_matrix(layer, layer.weight.detach())
    rows, cols = matrix.shape
    generator = torch.Generator().manual_seed(1)
    shape = weight.scale_shape(rows, cols)
    scale = torch.rand(shape, generator=generator) + 0.1
    codes = torch.randint(0, 2**weight.bits, (rows, cols), generator=generator)
    zero = torch.randint(0, 2**weight.bits, shape, generator=generator)
    stored = PackedTensor(
        weight, rows, cols, pack(codes, weight.bits), scale, None if weight.symmetric else pack(zero, weight.bits)
    )
    size = weight.group_size or cols
    by_hand = np.empty((rows, cols), dtype=np.float32)
    for row, col in np.ndindex(rows, cols):
        index = row % shape[0], col // size
        middle = 2 ** (weight.bits - 1) if weight.symmetric else int(zero[index])
        by_hand[row, col] = np.float32(int(codes[row, col]) - middle) * np.float32(scale[index])
    plain = copy.deepcopy(layer)
    with torch.no_grad():
        plain.weight.copy_(ELASTIC[type(layer)].from_matrix(layer, torch.from_numpy(by_hand), layer.weight.shape))
    bias = getattr(layer, "bias", None)
    input_range = InputRange(INPUT, torch.tensor([SCALE]), torch.tensor([ZERO], dtype=torch.int16))
    converted = PACKED[type(layer)].convert(
        layer, "it", stored, bias.detach() if bias is not None else None, input_range if quantized_input else None
    )
    return converted, plain, x


def error(found: Tensor, expected: Tensor) -> float:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    return ((found.double() - expected.double()).abs().max() / expected.double().abs().max()).item()


def test_every_elastic_kind_has_a_packed_one() -> None:
    assert set(PACKED) == {*ELASTIC, *ELASTIC.values()}
    assert all(PACKED[kind] is PACKED[elastic] and PACKED[kind].kind is kind for kind, elastic in ELASTIC.items())


@pytest.mark.parametrize("weight", ["int5:tensor", "uint3:channel", "uint4:group16"])
@pytest.mark.parametrize("name", KINDS)
def test_it_computes_what_torchs_own_layer_does_on_dequantized_weights(name: str, weight: str) -> None:
    layer, plain, x = packed(name, Format.parse(weight), quantized_input=False)
    assert error(layer(x), plain(x)) <= (SUMS if isinstance(layer, PackedLinear) else 0)


@pytest.mark.parametrize("name", [name for name in KINDS if name != "embedding"])
def test_its_input_is_quantized_by_hand(name: str) -> None:
    layer, plain, x = packed(name, Format.parse("int4:channel"), quantized_input=True)
    codes = np.clip(np.rint(x.numpy() / np.float32(SCALE)) + ZERO, 0, 7)
    assert 0 < (codes == 7).mean() < 1, "some inputs are clipped"
    x_by_hand = torch.from_numpy((codes - ZERO) * np.float32(SCALE)).float()
    assert error(layer(x), plain(x_by_hand)) <= (SUMS if isinstance(layer, PackedLinear) else 0)


def test_output_size_chooses_among_those_that_a_stride_leaves_open() -> None:
    layer, plain, x = packed("conv_transpose2d, grouped", Format.parse("int4:channel"), quantized_input=False)
    for size in ([11, 9], [12, 10]):
        assert layer(x, output_size=size).shape[2:] == torch.Size(size)
        assert torch.equal(layer(x, output_size=size), plain(x, output_size=size))


def test_hyperparameters_keep_torchs_names() -> None:
    for name, (_, options, _) in KINDS.items():
        layer, plain, _ = packed(name, Format.parse("int4:channel"), quantized_input=False)
        for option in set(options) - {"bias"}:
            assert getattr(layer, option) == getattr(plain, option)


def test_its_state_is_what_is_stored() -> None:
    layer, _, _ = packed("linear", Format.parse("uint3:channel"), quantized_input=True)
    assert {name: (t.dtype, tuple(t.shape)) for name, t in layer.stored().items()} == {
        "codes": (torch.uint8, (-(-5 * 43 * 2 // 8) + -(-5 * 43 // 8),)),
        "scale": (torch.float32, (5, 1)),
        "zero_point": (torch.uint8, (2 + 1,)),
        "bias": (torch.float32, (5,)),
        "input_scale": (torch.float32, (1,)),
        "input_zero_point": (torch.uint8, (1,)),
    }
    assert list(layer.state_dict()) == list(layer.stored())
    assert not list(layer.parameters())
    assert layer.input_zero_point is not None
    assert layer.input_zero_point.dtype == torch.int16
    assert "uint3:channel" in repr(layer)
    bare, _, _ = packed("conv2d, grouped", Format.parse("int4:tensor"), quantized_input=False)
    assert list(bare.state_dict()) == ["codes", "scale"]
    assert (bare.bias, bare.input_scale, bare.input_zero_point, bare.input_format) == (None,) * 4


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_weights_of_every_kind_are_the_supernets_bit_for_bit(
    fmt: Format, every_kind: dict[str, eqnet.Supernet]
) -> None:
    for name, supernet in every_kind.items():
        subnet = {"": supernet.space.member_format(supernet.space.layers[0], LayerFormat(fmt, INPUT))}
        layer = eqnet.pack(supernet, subnet).layers[""]
        with supernet.running(subnet):
            assert torch.equal(layer.dequantized_weight(torch.float32), supernet.elastic[""].quantized_weight()), name


@pytest.fixture(scope="module")
def every_kind() -> dict[str, eqnet.Supernet]:
    return {name: calibrated(*made(name)) for name in KINDS}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=["bf16", "fp64"])
@pytest.mark.parametrize("name", ["linear", "conv2d, grouped", "embedding"])
def test_models_of_other_types_compute_in_theirs(name: str, dtype: torch.dtype) -> None:
    layer, x = made(name)
    x = x if name == "embedding" else x.to(dtype)
    supernet = calibrated(layer.to(dtype), x)
    subnet = supernet.space.draw(np.random.default_rng(0))
    packed = eqnet.pack(supernet, subnet)
    with supernet.running(subnet), torch.no_grad():
        expected = supernet(x)
    if (name, dtype) == ("linear", torch.bfloat16):
        assert error(packed(x), expected) <= BFLOAT16
    else:
        torch.testing.assert_close(packed(x), expected)  # the supernet convolves channels-last, in another order


@pytest.mark.parametrize("name", ["linear", "embedding"])
def test_a_change_of_type_changes_what_is_computed_and_not_what_is_stored(name: str) -> None:
    layer, plain, x = packed(name, Format.parse("uint3:channel"), quantized_input=False)
    before = {key: (part.dtype, part.clone()) for key, part in layer.state_dict().items()}
    layer.bfloat16()
    for key, part in layer.state_dict().items():
        assert part.dtype == before[key][0]
        assert torch.equal(part, before[key][1])
    x = x if name == "embedding" else x.bfloat16()
    assert error(layer(x), plain.bfloat16()(x)) <= (BFLOAT16 if name == "linear" else 0)


def test_gradients_reach_the_input_where_it_is_not_clipped() -> None:
    layer, plain, x = packed("linear", Format.parse("int4:channel"), quantized_input=True)
    x.requires_grad_()
    layer(x).sum().backward()
    codes = (x.detach() / SCALE).round() + ZERO
    inside = (codes >= 0) & (codes <= 7)
    assert x.grad is not None
    assert torch.allclose(x.grad, inside * plain.weight.detach().sum(0))


def test_parts_that_do_not_fit_are_refused_and_nothing_changes() -> None:
    weight = packed("linear", Format.parse("int4:channel"), quantized_input=False)[0].weight
    plain = nn.Linear(43, 6)
    with pytest.raises(InputError, match=r"layer 'fc': a Linear .* \(6, 43\) needs a matrix of \(6, 43\).*\(5, 43\)"):
        PackedLinear.convert(plain, "fc", weight)
    plain = nn.Linear(43, 5)
    with pytest.raises(InputError, match=r"layer 'fc': bias: expected float32 of shape \(5,\); found .* \(4,\)"):
        PackedLinear.convert(plain, "fc", weight, torch.zeros(4))
    assert type(plain) is nn.Linear
    assert plain(torch.zeros(1, 43)).shape == (1, 5)


@pytest.mark.parametrize(
    ("fmt", "scale", "zero_point", "message"),
    [
        ("uint3:tensor", torch.tensor([0.0]), 1, "expected a positive number; found 0.0"),
        ("uint3:tensor", torch.tensor([float("nan")]), 1, "expected a positive number; found nan"),
        ("uint3:tensor", torch.tensor(0.5), 1, r"expected float32 of shape \(1,\); found float32 of shape \(\)"),
        ("uint3:tensor", torch.tensor([0.5]), 8, "uint3:tensor has 0 to 7; found 8"),
        ("int3:tensor", torch.tensor([0.5]), 1, "int3:tensor has 0 to 0; found 1"),
    ],
    ids=["zero", "nan", "no vector", "zero point too large", "zero point of a symmetric format"],
)
def test_ranges_that_are_none_are_refused(fmt: str, scale: Tensor, zero_point: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        InputRange(Format.parse(fmt), scale, torch.tensor([zero_point], dtype=torch.int16))
