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


TIE = 1e-4
"""Share of a step around a tie in which the rounding of a quotient may decide: a few float32 steps of 128."""


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


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_onnx_runtime_gives_the_same_codes_and_from_them_the_same_values(fmt: Format, weight: torch.Tensor) -> None:
    made = quantizer(fmt, weight)
    scale, zero_point = made.scale(fmt).detach(), made.integer_zero_point(fmt)
    sign = "" if fmt.symmetric else "U"
    eight = getattr(TensorProto, f"{sign}INT8")
    stored = getattr(TensorProto, f"{sign}INT{fmt.bits}") if fmt.bits in (2, 4, 8) else eight
    if fmt.granularity is Granularity.TENSOR:
        shape, layout = (), {}
    elif fmt.granularity is Granularity.CHANNEL:
        shape, layout = (ROWS,), {"axis": 0}
    else:
        shape, layout = tuple(scale.shape), {"axis": 1, "block_size": fmt.group_size}

    def integers(name: str, values: torch.Tensor, element: int, dims: tuple[int, ...] = ()) -> onnx.TensorProto:
        return helper.make_tensor(name, element, dims, [int(v) for v in values.flatten()])

    graph = helper.make_graph(
        [
            helper.make_node("QuantizeLinear", ["weight", "scale", "zero"], ["saturated"], **layout),
            helper.make_node("Clip", ["saturated", "qmin", "qmax"], ["codes"]),
            helper.make_node("DequantizeLinear", ["ours", "scale", "stored zero"], ["values"], **layout),
        ],
        "quantize",
        [
            helper.make_tensor_value_info("weight", TensorProto.FLOAT, [ROWS, COLS]),
            helper.make_tensor_value_info("scale", TensorProto.FLOAT, shape),
        ],
        [
            helper.make_tensor_value_info("codes", eight, [ROWS, COLS]),
            helper.make_tensor_value_info("values", TensorProto.FLOAT, [ROWS, COLS]),
        ],
        [
            integers("zero", zero_point, eight, shape),
            integers("qmin", torch.tensor(fmt.qmin), eight),
            integers("qmax", torch.tensor(fmt.qmax), eight),
            integers("ours", made.codes(weight, fmt), stored, (ROWS, COLS)),
            integers("stored zero", zero_point, stored, shape),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=min(onnx.IR_VERSION, 13))
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    codes, values = session.run(None, {"weight": weight.numpy(), "scale": scale.reshape(shape).numpy()})
    assert np.array_equal(codes, made.codes(weight, fmt).numpy())
    assert np.array_equal(values, made(weight, fmt).detach().numpy())


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
    halfway = ((ratio - ratio.floor()) - 0.5).abs() < TIE
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


@pytest.mark.parametrize("fmt", [Format(3, True), Format(2, False, Granularity.CHANNEL)], ids=str)
def test_gradients_of_clipped_values_are_those_of_finite_differences(fmt: Format) -> None:
    """A clipped value is ``(q - zero point) scale``, smooth in both but for the gradient scale of LSQ."""
    x = torch.tensor([[9.0, -9.0, 7.0], [8.0, -7.0, -8.0]])
    made = Quantizer([fmt], *x.shape)
    parameters = [made.log_scale[str(fmt)]]
    if not fmt.symmetric:
        parameters.append(made.zero_point[str(fmt)])
        with torch.no_grad():
            made.zero_point[str(fmt)] += 1
    factors = torch.tensor([[1.0, 2.0, -3.0], [0.5, 4.0, 1.0]])
    (made(x, fmt) * factors).sum().backward()
    shared = x.numel() // made.scale(fmt).numel()
    lsq = 1 / (shared * fmt.qmax) ** 0.5
    for parameter, step, share in zip(parameters, (1e-2, 1.0), (lsq, 1.0), strict=False):
        assert parameter.grad is not None
        for i in range(len(parameter)):
            ends = []
            for move in (step, -step):
                with torch.no_grad():
                    parameter[i] += move
                    ends.append((made(x, fmt) * factors).sum().item())
                    parameter[i] -= move
            assert parameter.grad[i].item() == pytest.approx(share * (ends[0] - ends[1]) / (2 * step), rel=1e-3)


def test_a_view_that_is_not_contiguous_is_quantized_like_its_copy(generator: torch.Generator) -> None:
    fmt = Format(4, False, Granularity.GROUP, 3)
    x = torch.randn(7, 5, generator=generator).T
    made = quantizer(fmt, x)
    assert torch.equal(made(x, fmt), made(x.contiguous(), fmt))
    assert torch.equal(made.codes(x, fmt), made.codes(x.contiguous(), fmt))


def test_a_format_that_it_lacks_is_refused() -> None:
    made = Quantizer([Format(4, True)], 2, 3)
    with pytest.raises(InputError, match="int8:tensor is not among int4:tensor"):
        made(torch.zeros(2, 3), Format(8, True))
