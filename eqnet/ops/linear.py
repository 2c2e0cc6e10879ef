"""Linear layers on packed weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from eqnet import _kernels
from eqnet.errors import InputError
from eqnet.formats import Format
from eqnet.ops.library import LIBRARY
from eqnet.ops.panels import SCALE_TYPES, Panels, address

COMPUTE = {"float": 0, "int8": 1}
"""How products are taken: on activations as they are, or rounded to int8 by row and group."""
_STATIC = 2

_ELEMENTS = {torch.float32: 0, torch.bfloat16: 1}

_WEIGHT = "Tensor codes, Tensor scales, Tensor? zeros, int[] shape"
LIBRARY.define(f"packed_linear(Tensor x, {_WEIGHT}, Tensor? bias, str compute) -> Tensor")
LIBRARY.define(
    f"packed_linear_static(Tensor x, {_WEIGHT}, Tensor? bias, Tensor correction, float input_scale, "
    "int input_zero_point, int qmin, int qmax) -> Tensor"
)


def packed_linear(x: Tensor, weight: Panels, bias: Tensor | None = None, compute: str = "float") -> Tensor:
    """``x`` times the transposed weight, plus ``bias``; differentiable in ``x`` alone.

    Args:
        x: float32 or bfloat16 [..., cols].
        weight: prepared.
        bias: float32 [rows].
        compute: ``float`` takes ``x`` as it is, with products and sums in float32; ``int8`` rounds each row and group
            of columns to int8 and sums their products in integers, which is faster and, by itself, about half a
            percent off.

    Returns:
        [..., rows], of the type of ``x``.

    Raises:
        InputError: a shape or type does not fit, or there is no such way to compute.
    """
    result: Tensor = torch.ops.eqnet.packed_linear(
        x, weight.codes, weight.scales, weight.zeros, list(weight.shape), bias, compute
    )
    return result


def packed_linear_static(
    x: Tensor,
    weight: Panels,
    bias: Tensor | None,
    correction: Tensor,
    fmt: Format,
    scale: float,
    zero_point: int,
) -> Tensor:
    """The same with ``x`` rounded to codes of one scale and zero point, and all products in integers.

    Args:
        x: float32 or bfloat16 [..., cols].
        weight: prepared.
        bias: float32 [rows].
        correction: the sums of the rows of the dequantized weight, float32 [rows].
        fmt: of the codes of ``x``.
        scale: of ``x``, positive.
        zero_point: of ``x``, one of its codes.

    Returns:
        [..., rows], of the type of ``x``.
    """
    result: Tensor = torch.ops.eqnet.packed_linear_static(
        x,
        weight.codes,
        weight.scales,
        weight.zeros,
        list(weight.shape),
        bias,
        correction,
        scale,
        zero_point,
        fmt.qmin,
        fmt.qmax,
    )
    return result


def _checked(x: Tensor, shape: list[int], compute: str = "float") -> None:
    if x.ndim == 0 or x.shape[-1] != shape[1]:
        raise InputError(f"packed_linear: expected x of shape [..., {shape[1]}], got {tuple(x.shape)}")
    if x.dtype not in _ELEMENTS:
        raise InputError(f"packed_linear: expected x in float32 or bfloat16, got {str(x.dtype).removeprefix('torch.')}")
    if compute not in COMPUTE:
        raise InputError(f"packed_linear: compute='{compute}' is unknown; choose {' or '.join(COMPUTE)}")


def _output(x: Tensor, shape: list[int]) -> Tensor:
    return x.new_empty(*x.shape[:-1], shape[0])


def _run(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    shape: list[int],
    bias: Tensor | None,
    compute: int,
    static: tuple[float, int, int, int] = (1.0, 0, 0, 0),
    correction: Tensor | None = None,
) -> Tensor:
    x = x.contiguous()
    y = _output(x, shape)
    rows, cols, size, bits = shape
    _kernels.linear(
        rows,
        cols,
        size,
        bits,
        codes.data_ptr(),
        scales.data_ptr(),
        SCALE_TYPES[scales.dtype],
        address(zeros),
        x.data_ptr(),
        y.data_ptr(),
        _ELEMENTS[x.dtype],
        x.numel() // cols,
        address(bias),
        compute,
        *static,
        address(correction),
        torch.get_num_threads(),
    )
    return y


def _linear_cpu(
    x: Tensor, codes: Tensor, scales: Tensor, zeros: Tensor | None, shape: list[int], bias: Tensor | None, compute: str
) -> Tensor:
    _checked(x, shape, compute)
    return _run(x, codes, scales, zeros, shape, bias, COMPUTE[compute])


def _linear_reference(
    x: Tensor, codes: Tensor, scales: Tensor, zeros: Tensor | None, shape: list[int], bias: Tensor | None, compute: str
) -> Tensor:
    _checked(x, shape, compute)
    weight = torch.ops.eqnet.dequantize_panels(codes, scales, zeros, shape)
    return F.linear(x.float(), weight, bias).to(x.dtype)


def _linear_shape(
    x: Tensor, codes: Tensor, scales: Tensor, zeros: Tensor | None, shape: list[int], bias: Tensor | None, compute: str
) -> Tensor:
    _checked(x, shape, compute)
    return _output(x, shape)


def _linear_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, codes, scales, zeros, ctx.shape, *_ = inputs
    ctx.save_for_backward(codes, scales, zeros)


def _input_gradient(ctx: Any, grad: Tensor) -> Tensor:
    weight = torch.ops.eqnet.dequantize_panels(*ctx.saved_tensors[:3], ctx.shape)
    return (grad.float() @ weight).to(grad.dtype)


def _linear_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _input_gradient(ctx, grad), None, None, None, None, None, None


def _static_cpu(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    shape: list[int],
    bias: Tensor | None,
    correction: Tensor,
    input_scale: float,
    input_zero_point: int,
    qmin: int,
    qmax: int,
) -> Tensor:
    _checked(x, shape)
    static = (input_scale, input_zero_point, qmin, qmax)
    return _run(x, codes, scales, zeros, shape, bias, _STATIC, static, correction)


def _static_reference(
    x: Tensor,
    codes: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    shape: list[int],
    bias: Tensor | None,
    correction: Tensor,
    input_scale: float,
    input_zero_point: int,
    qmin: int,
    qmax: int,
) -> Tensor:
    rounded = ((x.float() / input_scale).round() + input_zero_point).clamp(qmin, qmax) - input_zero_point
    return _linear_reference(rounded * input_scale, codes, scales, zeros, shape, bias, "float").to(x.dtype)


def _static_shape(x: Tensor, codes: Tensor, scales: Tensor, zeros: Tensor | None, shape: list[int], *_: Any) -> Tensor:
    _checked(x, shape)
    return _output(x, shape)


def _static_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, codes, scales, zeros, ctx.shape, _, _, ctx.scale, ctx.zero_point, ctx.qmin, ctx.qmax = inputs
    ctx.save_for_backward(codes, scales, zeros, x)


def _static_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    # Rounding is passed straight through, clipping is not, as in training.
    code = (ctx.saved_tensors[3].float() / ctx.scale).round() + ctx.zero_point
    inside = (code >= ctx.qmin) & (code <= ctx.qmax)
    return _input_gradient(ctx, grad) * inside, *[None] * 10


LIBRARY.impl("packed_linear", _linear_reference, "CompositeExplicitAutograd")
LIBRARY.impl("packed_linear", _linear_cpu, "CPU")
torch.library.register_fake("eqnet::packed_linear", _linear_shape)
torch.library.register_autograd("eqnet::packed_linear", _linear_backward, setup_context=_linear_context)
LIBRARY.impl("packed_linear_static", _static_reference, "CompositeExplicitAutograd")
LIBRARY.impl("packed_linear_static", _static_cpu, "CPU")
torch.library.register_fake("eqnet::packed_linear_static", _static_shape)
torch.library.register_autograd("eqnet::packed_linear_static", _static_backward, setup_context=_static_context)
