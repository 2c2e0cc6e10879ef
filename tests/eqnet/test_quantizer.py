"""Learned scales and zero points: what is trained is what is stored."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper

from eqnet import Format, Granularity, InputError
from eqnet.quantizer import Quantizer
from tests.eqnet.conftest import ByHand

ROWS, COLS = 5, 77  # odd, with a last group that is shorter than the others

GRANULARITIES = [(Granularity.TENSOR, 0), (Granularity.CHANNEL, 0), (Granularity.GROUP, 16), (Granularity.GROUP, 100)]
FORMATS = [
    Format(bits, symmetric, granularity, size)
    for bits, symmetric, (granularity, size) in itertools.product(range(2, 9), (True, False), GRANULARITIES)
]
ONNX_TYPES = {
    (8, True): TensorProto.INT8,
    (8, False): TensorProto.UINT8,
    (4, True): TensorProto.INT4,
    (4, False): TensorProto.UINT4,
}


@pytest.fixture
def weight(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(ROWS, COLS, generator=generator) * torch.tensor([1e-3, 0.1, 1.0, 10.0, 1e4])[:, None]


def quantizer(fmt: Format, weight: torch.Tensor, scale_dtype: torch.dtype = torch.float32) -> Quantizer:
    made = Quantizer([fmt], *weight.shape, scale_dtype)
    made.initialize(weight)
    return made


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_every_format_equals_its_codes_and_the_arithmetic_by_hand(
    fmt: Format, weight: torch.Tensor, by_hand: ByHand
) -> None:
    made = quantizer(fmt, weight)
    faked = made(weight, fmt).detach()
    codes = made.codes(weight, fmt)
    assert codes.min() >= (-(2 ** (fmt.bits - 1)) if fmt.symmetric else 0)
    assert codes.max() <= (2 ** (fmt.bits - 1) - 1 if fmt.symmetric else 2**fmt.bits - 1)
    assert torch.equal(faked, made.dequantize(codes, fmt))
    expected = by_hand(
        weight.numpy(), fmt, made.scale(fmt).detach().numpy(), made.integer_zero_point(fmt).detach().numpy()
    )
    assert np.array_equal(faked.numpy(), expected)


@pytest.mark.parametrize(
    "fmt",
    [fmt for fmt in FORMATS if fmt.bits in (4, 8) and fmt.group_size in (0, 16)],
    ids=str,
)
def test_onnx_runtime_dequantizes_the_codes_to_the_same_bits(fmt: Format, weight: torch.Tensor) -> None:
    made = quantizer(fmt, weight)
    scale, zero_point = made.scale(fmt).detach(), made.integer_zero_point(fmt)
    kind = ONNX_TYPES[fmt.bits, fmt.symmetric]
    if fmt.granularity is Granularity.TENSOR:
        scale, zero_point, attributes = scale.reshape(()), zero_point.reshape(()), {}
    elif fmt.granularity is Granularity.CHANNEL:
        scale, zero_point, attributes = scale.flatten(), zero_point.flatten(), {"axis": 0}
    else:
        attributes = {"axis": 1, "block_size": fmt.group_size}

    def constant(name: str, values: torch.Tensor, element: int) -> onnx.TensorProto:
        return helper.make_tensor(name, element, list(values.shape), values.flatten().tolist())

    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["codes", "scale", "zero_point"], ["y"], **attributes)],
        "dequantize",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [ROWS, COLS])],
        [
            constant("codes", made.codes(weight, fmt), kind),
            constant("scale", scale, TensorProto.FLOAT),
            constant("zero_point", zero_point.int(), kind),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {})
    assert np.array_equal(result, made(weight, fmt).detach().numpy())


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_per_channel_equals_torchs_own_fake_quantize(bits: int, symmetric: bool, weight: torch.Tensor) -> None:
    fmt = Format(bits, symmetric, Granularity.CHANNEL)
    made = quantizer(fmt, weight)
    expected = torch.fake_quantize_per_channel_affine(
        weight, made.scale(fmt).detach().flatten(), made.integer_zero_point(fmt).flatten().int(), 0, fmt.qmin, fmt.qmax
    )
    # Torch multiplies by the inverse of the scale, which rounds a value that lies between two codes to the other one.
    differing = made(weight, fmt).detach() != expected
    step = made.scale(fmt).detach().expand_as(weight)
    ratio = (weight / step).abs()
    halfway = ((ratio - ratio.floor()) - 0.5).abs() < 1e-4
    assert not (differing & ~halfway).any()


@pytest.mark.parametrize("fmt", FORMATS[::5], ids=str)
def test_scales_in_half_precision_are_trained_as_they_are_stored(fmt: Format, weight: torch.Tensor) -> None:
    made = quantizer(fmt, weight, torch.float16)
    scale = made.scale(fmt)
    assert torch.equal(scale, scale.half().float())
    assert (scale > 0).all()
    assert torch.equal(made(weight, fmt).detach(), made.dequantize(made.codes(weight, fmt), fmt))
    made(weight, fmt).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in made.parameters())


@pytest.mark.parametrize("fmt", [Format(2, True), Format(3, False), Format(8, False, Granularity.CHANNEL)], ids=str)
@pytest.mark.parametrize("value", [0.0, 0.7, -3.0, 1e30, 1e-30], ids=str)
def test_a_constant_tensor_survives(fmt: Format, value: float) -> None:
    weight = torch.full((2, 3), value)
    made = quantizer(fmt, weight)
    assert torch.isfinite(made.scale(fmt)).all()
    assert (made.scale(fmt) > 0).all()
    quantized = made(weight, fmt)
    assert torch.isfinite(quantized).all()
    if value == 0:
        assert torch.equal(quantized, weight)
    else:
        # Codes end at 2^(b-1) - 1, and the one value there is can be given the outermost code.
        assert torch.allclose(quantized, weight, rtol=1e-2, atol=0)


def test_a_single_element_is_kept() -> None:
    weight = torch.tensor([[-0.37]])
    for fmt in FORMATS:
        assert quantizer(fmt, weight)(weight, fmt).item() == pytest.approx(-0.37, rel=1e-2)


def test_the_gradient_scale_is_that_of_lsq(generator: torch.Generator) -> None:
    """The gradient of a scale is that of the sum over its elements, divided by sqrt(n q_max) (Esser et al., 2020)."""
    fmt = Format(3, True)
    x = torch.randn(4, 9, generator=generator)
    made = quantizer(fmt, x)
    made(x, fmt).sum().backward()
    scale = made.scale(fmt).item()
    ratio = x / scale
    inside = (ratio.round() >= -4) & (ratio.round() <= 3)
    by_hand = torch.where(inside, ratio.round() - ratio, ratio.round().clamp(-4, 3)).sum() / (36 * 3) ** 0.5
    gradient = made.log_scale[str(fmt)].grad
    assert gradient is not None
    assert gradient.item() == pytest.approx(by_hand.item() * scale, rel=1e-4)


def test_a_format_that_it_lacks_is_refused() -> None:
    made = Quantizer([Format(4, True)], 2, 3)
    with pytest.raises(InputError, match="int8:tensor is not among int4:tensor"):
        made(torch.zeros(2, 3), Format(8, True))
