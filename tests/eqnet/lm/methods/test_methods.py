"""Codes of every method, in every format, against what is computed by hand or in float64."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from eqnet.errors import InputError, ModelError
from eqnet.formats import Format
from eqnet.lm.methods import METHODS, ErrorCompensation
from eqnet.lm.methods.compensation import inverse_factor

FORMATS = [
    Format.parse(f"{sign}int{bits}:{shared}")
    for bits in range(2, 9)
    for shared in ("group16", "group32", "group64", "group128", "channel")
    for sign in ("", "u")
]
SCALES = (torch.float16, torch.bfloat16, torch.float32)

FLOAT32 = 1e-4
"""Relative; losses are sums of squares in float32, and those of 8-bit codes differences of nearly equal numbers."""


def _weight(rows: int, cols: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed)) * 0.05


def _hessian(cols: int, seed: int = 1) -> Tensor:
    """Of inputs that depend on each other, some far larger than others."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(cols, cols, generator=generator) * torch.rand(cols, generator=generator)
    x = torch.randn(4 * cols, cols, generator=generator) @ mix
    return x.T @ x / len(x)


def _loss(weight: Tensor, rounded: Tensor, hessian: Tensor) -> float:
    """The mean squared error of the layer's results."""
    error = (rounded - weight).double()
    return float((error @ hessian.double() * error).sum())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cols", [1, 31, 80, 200])
def test_every_format_packs_awkward_columns(method: str, cols: int) -> None:
    weight, hessian = _weight(3, cols), _hessian(cols)
    for fmt, codes in zip(FORMATS, METHODS[method].codes(weight, FORMATS, torch.float16, hessian), strict=True):
        packed = codes.packed()
        assert packed.format == fmt
        assert packed.scale.dtype == torch.float16
        assert bool((packed.scale > 0).all())
        assert packed.integers().amin() >= fmt.qmin
        assert packed.integers().amax() <= fmt.qmax
        # No code is further off than the whole range of its group.
        assert (packed.dequantize() - weight).abs().max() <= weight.abs().max() * 2


@pytest.mark.parametrize("method", METHODS)
def test_formats_at_once_are_formats_one_by_one(method: str) -> None:
    weight, hessian = _weight(5, 96), _hessian(96)
    for together in METHODS[method].codes(weight, FORMATS, torch.float16, hessian):
        (alone,) = METHODS[method].codes(weight, [together.format], torch.float16, hessian)
        assert torch.equal(alone.stored, together.stored)
        assert torch.equal(alone.scale, together.scale)


@pytest.mark.parametrize("fmt", FORMATS, ids=str)
def test_better_methods_lose_less(fmt: Format) -> None:
    weight, hessian = _weight(16, 192), _hessian(192)
    rtn, mse, gptq = (m.quantize(weight, fmt, torch.float16, hessian).dequantize() for m in METHODS.values())
    weighted = hessian.diag().diag()
    assert _loss(weight, mse, weighted) < _loss(weight, rtn, weighted)
    assert _loss(weight, gptq, hessian) < 0.9 * _loss(weight, mse, hessian)


def test_rtn_is_what_glm_computes() -> None:
    weight = _weight(4, 48)
    packed = METHODS["rtn"].quantize(weight, Format.parse("int4:channel"), torch.float32)
    scale = np.abs(weight.numpy()).max(1, keepdims=True) / np.float32(7)
    np.testing.assert_array_equal(packed.scale.numpy(), scale)
    np.testing.assert_array_equal(packed.integers().numpy(), np.rint(weight.numpy() / scale))


def test_scales_are_rounded_before_codes_are_chosen() -> None:
    weight = _weight(8, 64)
    for dtype in SCALES:
        packed = METHODS["rtn"].quantize(weight, Format.parse("uint8:group32"), dtype)
        scale = packed.scale.float().repeat_interleave(32, 1)
        zero_point = packed.zero_points().repeat_interleave(32, 1)
        expected = ((weight / scale).round() + zero_point).clamp(0, 255)
        assert torch.equal(packed.integers().float(), expected)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fmt", ["int4:channel", "uint4:group32", "uint2:group16", "int8:group64"])
def test_rows_of_one_value_and_of_zeros(method: str, fmt: str) -> None:
    weight = torch.stack([torch.zeros(64), torch.full((64,), 0.25), torch.full((64,), -0.25)])
    packed = METHODS[method].quantize(weight, Format.parse(fmt), torch.float16, _hessian(64))
    assert torch.equal(packed.dequantize()[0], weight[0])
    # fp16 holds a scale to 2^-11 of itself; errors that gptq makes good may add up.
    torch.testing.assert_close(packed.dequantize()[1:], weight[1:], rtol=2e-3, atol=0)


@pytest.mark.parametrize(
    ("method", "text"),
    [  # absmax, the range of rtn if symmetric, makes no use of the lowest code
        *itertools.product(METHODS, ("uint4:group32", "uint8:channel")),
        *itertools.product(("mse", "gptq"), ("int3:group64", "int5:channel")),
    ],
)
def test_weights_on_a_grid_stay_there(method: str, text: str) -> None:
    fmt = Format.parse(text)
    generator = torch.Generator().manual_seed(0)
    codes = torch.randint(fmt.qmin, fmt.qmax + 1, (6, 128), generator=generator).float()
    codes[:, ::32], codes[:, 1::32] = fmt.qmin, fmt.qmax
    scale = torch.tensor([0.5, 0.25, 2.0, 1.0, 0.125, 4.0])[:, None] / 64
    weight = (codes - (0 if fmt.symmetric else fmt.qmax // 2)) * scale
    assert torch.equal(METHODS[method].quantize(weight, fmt, torch.float16, _hessian(128)).dequantize(), weight)


def test_gptq_is_the_column_by_column_procedure() -> None:
    """In NumPy and float64, on the inverse Hessian itself, from which each rounded column is eliminated."""
    fmt = Format.parse("int3:channel")
    weight, hessian = _weight(5, 24), _hessian(24)
    packed = METHODS["gptq"].quantize(weight, fmt, torch.float32, hessian)
    scale = packed.scale.double().numpy()[:, 0]
    damped = hessian.double().numpy() + 0.01 * np.eye(24) * float(hessian.diag().mean())
    inverse, w = np.linalg.inv(damped), weight.double().numpy().copy()
    for j in range(24):
        code = np.clip(np.rint(w[:, j] / scale), fmt.qmin, fmt.qmax)
        assert (packed.integers()[:, j].numpy() == code).mean() >= 0.8, j  # a tie may turn a code of five
        error = w[:, j] - packed.integers()[:, j].numpy() * scale
        w -= np.outer(error / inverse[j, j], inverse[j])
        inverse = inverse - np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
        inverse[j, j] = 1.0


def test_the_factor_is_that_of_the_inverse() -> None:
    hessian = _hessian(40)
    factor, damping = inverse_factor(hessian, 0.01)
    factor = factor.double()
    assert damping == pytest.approx(0.01 * float(hessian.double().diag().mean()))
    damped = hessian.double() + damping * torch.eye(40)
    torch.testing.assert_close(factor.T @ factor @ damped, torch.eye(40).double(), atol=1e-3, rtol=0)
    assert torch.equal(factor, factor.triu())


@pytest.mark.parametrize("by_activation", [False, True])
@pytest.mark.parametrize("cols", [1, 40, 300])
def test_what_is_lost_comes_with_the_codes(cols: int, by_activation: bool) -> None:
    weight, hessian, formats = _weight(33, cols), _hessian(cols), FORMATS[::7]
    for codes in ErrorCompensation(by_activation=by_activation).codes(weight, formats, torch.float16, hessian):
        assert codes.forms is not None
        error = codes.error.double()
        expected = (error @ hessian.double() * error).sum(1)
        torch.testing.assert_close(codes.forms, expected, rtol=FLOAT32, atol=FLOAT32 * float(expected.mean()))


def test_inputs_that_never_were_keep_their_weights() -> None:
    weight, hessian = _weight(4, 64), _hessian(64)
    hessian[7], hessian[:, 7] = 0, 0
    fmt = Format.parse("uint8:channel")
    packed = METHODS["gptq"].quantize(weight, fmt, torch.float16, hessian)
    assert ((packed.dequantize() - weight)[:, 7].abs() <= 0.51 * packed.scale.float()[:, 0]).all()


def test_without_any_input_gptq_rounds_to_nearest() -> None:
    weight = _weight(4, 64)
    fmt = Format.parse("uint4:group32")
    gptq = METHODS["gptq"].quantize(weight, fmt, torch.float16, torch.zeros(64, 64))
    assert torch.equal(gptq.integers(), METHODS["mse"].quantize(weight, fmt).integers())
    (codes,) = METHODS["gptq"].codes(weight, [fmt], torch.float16, torch.zeros(64, 64))
    assert codes.forms is not None
    assert codes.forms.abs().max() < FLOAT32 * float(codes.error.square().sum(1).max())


def test_the_order_of_activations_keeps_groups_contiguous() -> None:
    weight, hessian = _weight(8, 96), _hessian(96)
    fmt = Format.parse("uint3:group32")
    packed = ErrorCompensation(by_activation=True).quantize(weight, fmt, torch.float16, hessian)
    rounded = METHODS["mse"].quantize(weight, fmt, torch.float16, hessian)
    assert torch.equal(packed.scale, rounded.scale)
    assert _loss(weight, packed.dequantize(), hessian) < 0.9 * _loss(weight, rounded.dequantize(), hessian)


@pytest.mark.parametrize("method", METHODS)
def test_scales_too_large_for_their_type_are_an_error(method: str) -> None:
    weight = torch.full((2, 8), 3e6)
    with pytest.raises(ModelError, match=r"too large for float16; take scale=fp32"):
        METHODS[method].quantize(weight, Format.parse("int4:channel"), torch.float16, torch.eye(8))
    fine = METHODS[method].quantize(weight, Format.parse("int4:channel"), torch.float32, torch.eye(8))
    torch.testing.assert_close(fine.dequantize(), weight)


def test_tiny_weights_keep_their_scale_in_half() -> None:
    weight = _weight(2, 64) * 1e-4
    for method in METHODS.values():
        packed = method.quantize(weight, Format.parse("int4:channel"), torch.float16, torch.eye(64))
        assert _loss(weight, packed.dequantize(), torch.eye(64)) < 0.05 * float(weight.square().sum())


@pytest.mark.parametrize(
    ("weight", "fmt", "hessian", "message"),
    [
        (torch.ones(2, 4), "int4:channel", None, "gptq needs the Hessian"),
        (torch.ones(2, 4), "int4:tensor", torch.eye(4), "one scale for all"),
        (torch.ones(2, 4), "int4:channel", torch.eye(3), "a Hessian of as many"),
        (torch.ones(2, 4).double(), "int4:channel", torch.eye(4), "found float64"),
        (torch.ones(0, 4), "int4:channel", torch.eye(4), r"found float32 of shape \(0, 4\)"),
        (torch.tensor([[float("nan")]]), "int4:channel", torch.eye(1), "inf or NaN"),
        (torch.ones(1, 1), "int4:channel", torch.tensor([[float("inf")]]), "calibration inputs hold inf or NaN"),
    ],
)
def test_what_cannot_be_quantized_is_refused(weight: Tensor, fmt: str, hessian: Tensor | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        METHODS["gptq"].quantize(weight, Format.parse(fmt), torch.float16, hessian)


def test_what_codes_lose_is_never_negative() -> None:
    """Not even where inputs were always 0, and all that is left is what two sums are off each other."""
    weight = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    (codes,) = METHODS["gptq"].codes(weight, [Format.parse("uint3:group16")], torch.float16, torch.zeros(48, 48))
    assert codes.forms is not None
    assert float(codes.forms.min()) >= 0
    assert float(codes.forms.max()) < 1e-4
