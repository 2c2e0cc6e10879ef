"""Fake quantization with learned scale and zero point, and its gradients."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eqnet import _kernels
from eqnet.ops.library import LIBRARY

LIBRARY.define("fake_quantize(Tensor x, Tensor scale, Tensor zero_point, int group_size, int qmin, int qmax) -> Tensor")
LIBRARY.define(
    "fake_quantize_backward(Tensor grad, Tensor x, Tensor scale, Tensor zero_point, int group_size, int qmin, "
    "int qmax) -> (Tensor, Tensor, Tensor)"
)


def fake_quantize(x: Tensor, scale: Tensor, zero_point: Tensor, group_size: int, qmin: int, qmax: int) -> Tensor:
    """Quantizes and dequantizes at once; differentiable in the first three arguments.

    ``(clamp(round(x / scale) + zero, qmin, qmax) - zero) * scale`` with ``zero = clamp(round(zero_point), qmin,
    qmax)``: what ONNX QuantizeLinear followed by DequantizeLinear computes. Gradients are those of LSQ (Esser et
    al., 2020, eq. 3) for the scale and of LSQ+ (Bhalgat et al., 2020, eq. 5) for the zero point, which is rounded
    straight-through.

    Args:
        x: float32, any shape; read as [rows, cols], where rows is that of ``scale``.
        scale: positive, float32 [rows, groups].
        zero_point: in codes, float32 [rows, groups]; rounded to an integer here.
        group_size: consecutive columns that share a scale; the last group may be shorter.
        qmin: smallest code.
        qmax: largest code.

    Returns:
        A tensor like ``x``.
    """
    result: Tensor = torch.ops.eqnet.fake_quantize(x, scale, zero_point, group_size, qmin, qmax)
    return result


def _columns(x: Tensor, scale: Tensor, zero_point: Tensor, group_size: int) -> int:
    """Columns of ``x`` read as a matrix with the rows of ``scale``; checks that they match the groups."""
    if scale.ndim != 2 or scale.shape != zero_point.shape or group_size < 1:
        raise ValueError(
            f"fake_quantize: expected scale and zero point of one shape [rows, groups] and groups of at least 1, got "
            f"{tuple(scale.shape)}, {tuple(zero_point.shape)} and {group_size}"
        )
    rows, groups = scale.shape
    cols = x.numel() // max(rows, 1)
    if cols * rows != x.numel() or (x.numel() and -(-cols // group_size) != groups):
        raise ValueError(
            f"fake_quantize: x of shape {tuple(x.shape)} in groups of {group_size} does not fit scale of shape "
            f"{tuple(scale.shape)}"
        )
    return cols


def _expand(parameter: Tensor, cols: int, group_size: int) -> Tensor:
    """[rows, groups] → [rows, 1] or [rows, cols]."""
    return parameter if parameter.shape[1] == 1 else parameter.repeat_interleave(group_size, dim=1)[:, :cols]


def _per_group_sum(values: Tensor, groups: int, group_size: int) -> Tensor:
    """[rows, cols] → [rows, groups]."""
    padded = torch.nn.functional.pad(values, (0, groups * group_size - values.shape[1]))
    return padded.reshape(values.shape[0], groups, group_size).sum(dim=2)


def _fake_quantize_reference(
    x: Tensor, scale: Tensor, zero_point: Tensor, group_size: int, qmin: int, qmax: int
) -> Tensor:
    cols = _columns(x, scale, zero_point, group_size)
    group_size = min(group_size, max(cols, 1))
    s = _expand(scale, cols, group_size)
    z = _expand(zero_point.round().clamp(qmin, qmax), cols, group_size)
    codes = ((x.reshape(scale.shape[0], cols) / s).round() + z).clamp(qmin, qmax)
    return _like(x, scale).copy_(((codes - z) * s).reshape(x.shape))


def _fake_quantize_backward_reference(
    grad: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor, group_size: int, qmin: int, qmax: int
) -> tuple[Tensor, Tensor, Tensor]:
    rows, groups = scale.shape
    cols = _columns(x, scale, zero_point, group_size)
    group_size = min(group_size, max(cols, 1))
    s = _expand(scale, cols, group_size)
    z = _expand(zero_point.round().clamp(qmin, qmax), cols, group_size)
    g = grad.reshape(rows, cols)
    ratio = x.reshape(rows, cols) / s
    codes = ratio.round() + z
    bounded = codes.clamp(qmin, qmax)
    inside = codes == bounded
    grad_scale = g * torch.where(inside, ratio.round() - ratio, bounded - z)
    grad_zero_point = torch.where(inside, 0, -s * g)
    return (
        _like(x, scale).copy_(torch.where(inside, g, 0).reshape(x.shape)),
        _per_group_sum(grad_scale, groups, group_size),
        _per_group_sum(grad_zero_point, groups, group_size),
    )


def _like(x: Tensor, scale: Tensor) -> Tensor:
    """An empty tensor for values like ``x``: in the order in memory that ``x`` has if all share one scale."""
    return torch.empty_like(x, memory_format=torch.preserve_format if scale.numel() == 1 else torch.contiguous_format)


def _ordered(x: Tensor, like: Tensor) -> Tensor:
    """``x`` in the order in memory of ``like``, which has no gaps."""
    return _float32(x) if x.stride() == like.stride() else torch.empty_like(like).copy_(_float32(x))


def _float32(x: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        raise TypeError(f"fake_quantize: expected float32, got {x.dtype}")
    return x


def _fake_quantize_cpu(x: Tensor, scale: Tensor, zero_point: Tensor, group_size: int, qmin: int, qmax: int) -> Tensor:
    cols = _columns(x, scale, zero_point, group_size)
    y = _like(x, scale)
    x, scale, zero_point = _ordered(x, y), _float32(scale.contiguous()), _float32(zero_point.contiguous())
    _kernels.fake_quantize(
        x.data_ptr(),
        scale.data_ptr(),
        zero_point.data_ptr(),
        y.data_ptr(),
        scale.shape[0],
        cols,
        group_size,
        qmin,
        qmax,
    )
    return y


def _fake_quantize_backward_cpu(
    grad: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor, group_size: int, qmin: int, qmax: int
) -> tuple[Tensor, Tensor, Tensor]:
    if grad.shape != x.shape:
        raise ValueError(f"fake_quantize: gradient of shape {tuple(grad.shape)} for x of shape {tuple(x.shape)}")
    cols = _columns(x, scale, zero_point, group_size)
    scale, zero_point = _float32(scale.contiguous()), _float32(zero_point.contiguous())
    gradients = _like(x, scale), torch.zeros_like(scale), torch.zeros_like(zero_point)
    if not x.numel():
        return gradients
    grad, x = _ordered(grad, gradients[0]), _ordered(x, gradients[0])
    _kernels.fake_quantize_backward(
        grad.data_ptr(),
        x.data_ptr(),
        scale.data_ptr(),
        zero_point.data_ptr(),
        gradients[0].data_ptr(),
        gradients[1].data_ptr(),
        gradients[2].data_ptr(),
        scale.shape[0],
        cols,
        group_size,
        qmin,
        qmax,
    )
    return gradients


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale, zero_point, *ctx.integers = inputs
    ctx.save_for_backward(x, scale, zero_point)


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return *torch.ops.eqnet.fake_quantize_backward(grad, *ctx.saved_tensors, *ctx.integers), None, None, None


LIBRARY.impl("fake_quantize", _fake_quantize_reference, "CompositeExplicitAutograd")
LIBRARY.impl("fake_quantize_backward", _fake_quantize_backward_reference, "CompositeExplicitAutograd")
LIBRARY.impl("fake_quantize", _fake_quantize_cpu, "CPU")
LIBRARY.impl("fake_quantize_backward", _fake_quantize_backward_cpu, "CPU")
torch.library.register_autograd("eqnet::fake_quantize", _backward, setup_context=_setup_context)


def _fake_quantize_shape(x: Tensor, scale: Tensor, zero_point: Tensor, group_size: int, qmin: int, qmax: int) -> Tensor:
    return _like(x, scale)


def _fake_quantize_backward_shape(
    grad: Tensor, x: Tensor, scale: Tensor, zero_point: Tensor, group_size: int, qmin: int, qmax: int
) -> tuple[Tensor, Tensor, Tensor]:
    like = torch.contiguous_format
    return (
        _like(x, scale),
        torch.empty_like(scale, memory_format=like),
        torch.empty_like(zero_point, memory_format=like),
    )


torch.library.register_fake("eqnet::fake_quantize", _fake_quantize_shape)
torch.library.register_fake("eqnet::fake_quantize_backward", _fake_quantize_backward_shape)
