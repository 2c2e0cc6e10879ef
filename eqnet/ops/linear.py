"""Linear layers on packed weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from eqnet import _kernels
from eqnet.errors import InputError
from eqnet.formats import Format
from eqnet.native import COMPUTE
from eqnet.ops import cuda
from eqnet.ops.library import LIBRARY
from eqnet.ops.panels import SCALE_TYPES, Panels, address
from eqnet.ops.tiles import Tiles

_STATIC = 2

_ELEMENTS = {torch.float32: 0, torch.bfloat16: 1}
_ON_GPUS = (torch.float16, torch.bfloat16, torch.float32)

Prepared = Panels | Tiles
"""A weight in the order in which the kernels of its device read it."""

_WEIGHT = "Tensor codes, Tensor scales, Tensor? zeros, int[] shape"
LIBRARY.define(f"packed_linear(Tensor x, {_WEIGHT}, Tensor? bias, str compute) -> Tensor")
LIBRARY.define(
    f"packed_linear_static(Tensor x, {_WEIGHT}, Tensor? bias, Tensor correction, float input_scale, "
    "int input_zero_point, int qmin, int qmax) -> Tensor"
)


def packed_linear(x: Tensor, weight: Prepared, bias: Tensor | None = None, compute: str = "float") -> Tensor:
    """``x`` times the transposed weight, plus ``bias``; differentiable in ``x`` alone.

    Args:
        x: float32 or bfloat16 [..., cols]; on GPUs float16, too, and these two are multiplied by fused kernels.
        weight: prepared for the device: ``Panels`` on the CPU, ``Tiles`` on GPUs.
        bias: float32 [rows].
        compute: ``float`` takes ``x`` as it is, and is as exact as float32: a few rows are split into digits of 8 bits,
            down to 2^-31 of the largest element of a group, whose products are summed in integers; many are multiplied
            in float32. ``int8`` rounds each row and group of columns to int8 and sums their products in integers, which
            is faster and, by itself, about half a percent off. GPUs always take ``x`` as it is, and sum in float32.

    Returns:
        [..., rows], of the type of ``x``. A row with NaN or inf in it gives what is not finite, and it alone.

    Raises:
        InputError: a shape or type does not fit, or there is no such way to compute.
    """
    result: Tensor = torch.ops.eqnet.packed_linear(x, *weight, bias, compute)
    return result


def packed_linear_static(
    x: Tensor,
    weight: Prepared,
    bias: Tensor | None,
    correction: Tensor,
    fmt: Format,
    scale: float,
    zero_point: int,
) -> Tensor:
    """The same with ``x`` rounded to codes of one scale and zero point, and all products in integers.

    Args:
        x: as for ``packed_linear``.
        weight: prepared for the device.
        bias: float32 [rows].
        correction: the sums of the rows of the dequantized weight, float32 [rows].
        fmt: of the codes of ``x``.
        scale: of ``x``, positive.
        zero_point: of ``x``, one of its codes.

    Returns:
        [..., rows], of the type of ``x``.

    Raises:
        InputError: a shape or type does not fit.
    """
    result: Tensor = torch.ops.eqnet.packed_linear_static(
        x, *weight, bias, correction, scale, zero_point, fmt.qmin, fmt.qmax
    )
    return result


class _Rounding(NamedTuple):
    """How static activations become codes."""

    scale: float
    zero_point: int
    qmin: int
    qmax: int

    def codes(self, x: Tensor) -> Tensor:
        """Before they are clipped."""
        return (x.float() / self.scale).round() + self.zero_point

    def rounded(self, x: Tensor) -> Tensor:
        """What the codes stand for, in float32."""
        return (self.codes(x).clamp(self.qmin, self.qmax) - self.zero_point) * self.scale


_NONE = _Rounding(1.0, 0, 0, 0)


def _whole(prepared: type[Panels] | type[Tiles], function: Callable[..., Any]) -> Callable[..., Any]:
    """An op's implementation, which takes a weight part by part, from one that takes it whole."""

    def op(x: Tensor, codes: Tensor, scales: Tensor, zeros: Tensor | None, shape: Any, *rest: Any) -> Any:
        return function(x, prepared(codes, scales, zeros, tuple(shape)), *rest)

    return op


def _output(x: Tensor, weight: Prepared, compute: str = "float") -> Tensor:
    """Memory for the result, once ``x`` fits the weight."""
    rows, cols, *_ = weight.shape
    if x.ndim == 0 or x.shape[-1] != cols:
        raise InputError(f"packed_linear: expected x of shape [..., {cols}], got {tuple(x.shape)}")
    if x.dtype not in (_ON_GPUS if x.device.type == "cuda" else _ELEMENTS):
        raise InputError(f"packed_linear: expected x in float32 or bfloat16, got {str(x.dtype).removeprefix('torch.')}")
    if compute not in COMPUTE:
        raise InputError(f"packed_linear: compute='{compute}' is unknown; choose {' or '.join(COMPUTE)}")
    return x.new_empty(*x.shape[:-1], rows)


def _vector(name: str, values: Tensor | None, rows: int) -> int:
    """The address of one float32 a row."""
    if values is None:
        return 0
    if values.dtype != torch.float32 or values.shape != (rows,) or not values.is_contiguous():
        raise InputError(
            f"packed_linear: expected a {name} in float32 of shape ({rows},) without gaps, got "
            f"{str(values.dtype).removeprefix('torch.')} of shape {tuple(values.shape)}"
        )
    return values.data_ptr()


def _run(
    y: Tensor,
    x: Tensor,
    weight: Panels,
    bias: Tensor | None,
    compute: int,
    rounding: _Rounding | None = None,
    correction: Tensor | None = None,
) -> Tensor:
    """Fills ``y``."""
    weight.check("packed_linear")
    codes, scales, zeros, shape = weight
    x = x.contiguous()
    _kernels.linear(
        *shape,
        codes.data_ptr(),
        scales.data_ptr(),
        SCALE_TYPES[scales.dtype],
        address(zeros),
        x.data_ptr(),
        y.data_ptr(),
        _ELEMENTS[x.dtype],
        x.numel() // shape[1],
        _vector("bias", bias, shape[0]),
        compute,
        *(rounding or _NONE),
        _vector("correction", correction, shape[0]),
        torch.get_num_threads(),
    )
    return y


def _linear_cpu(x: Tensor, weight: Panels, bias: Tensor | None, compute: str) -> Tensor:
    return _run(_output(x, weight, compute), x, weight, bias, COMPUTE[compute])


def _linear_reference(x: Tensor, weight: Panels, bias: Tensor | None, compute: str) -> Tensor:
    return _output(x, weight, compute).copy_(F.linear(x.float(), weight.dequantize(), bias))


def _linear_cuda(x: Tensor, weight: Tiles, bias: Tensor | None, compute: str) -> Tensor:
    _vector("bias", bias, weight.shape[0])
    return cuda.linear(cuda.cuda_library(), x, weight, bias, _output(x, weight, compute))


def _linear_shape(x: Tensor, weight: Panels, bias: Tensor | None, compute: str) -> Tensor:
    return _output(x, weight, compute)


def _linear_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, codes, scales, zeros, ctx.shape, *_ = inputs
    ctx.save_for_backward(codes, scales, zeros)


def _input_gradient(ctx: Any, grad: Tensor) -> Tensor:
    weight: Tensor = torch.ops.eqnet.dequantize_prepared(*ctx.saved_tensors[:3], ctx.shape)
    return (grad.float() @ weight).to(grad.dtype)


def _linear_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    return _input_gradient(ctx, grad), *[None] * 6


def _static_cpu(x: Tensor, weight: Panels, bias: Tensor | None, correction: Tensor, *rounding: Any) -> Tensor:
    return _run(_output(x, weight), x, weight, bias, _STATIC, _checked(*rounding), correction)


def _static_reference(x: Tensor, weight: Panels, bias: Tensor | None, correction: Tensor, *rounding: Any) -> Tensor:
    exact = F.linear(_checked(*rounding).rounded(x), weight.dequantize(), bias)
    return _output(x, weight).copy_(exact)


def _static_cuda(x: Tensor, weight: Tiles, bias: Tensor | None, _correction: Tensor, *rounding: Any) -> Tensor:
    matrix = cuda.dequantize(cuda.cuda_library(), weight, torch.float32)
    return _output(x, weight).copy_(F.linear(_checked(*rounding).rounded(x), matrix, bias))


def _static_shape(x: Tensor, weight: Panels, *_: Any) -> Tensor:
    return _output(x, weight)


def _static_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, codes, scales, zeros, ctx.shape, _, _, *ctx.rounding = inputs
    ctx.save_for_backward(codes, scales, zeros, x)


def _static_backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    # Rounding is passed straight through, clipping is not, as in training.
    rounding = _Rounding(*ctx.rounding)
    codes = rounding.codes(ctx.saved_tensors[3])
    inside = (codes >= rounding.qmin) & (codes <= rounding.qmax)
    return _input_gradient(ctx, grad) * inside, *[None] * 10


def _checked(scale: float, zero_point: int, qmin: int, qmax: int) -> _Rounding:
    if not (scale > 0 and -128 <= qmin <= zero_point <= qmax <= qmin + 255 and qmax <= 255):
        raise InputError(
            f"packed_linear_static: a scale of {scale} and codes from {qmin} to {qmax} around {zero_point}; expected a "
            "positive scale, and codes of 8 bits, signed or not, with the zero point among them"
        )
    return _Rounding(scale, zero_point, qmin, qmax)


def _register(name: str, shape: Any, reference: Any, cpu: Any, gpu: Any, context: Any, backward: Any) -> None:
    LIBRARY.impl(name, _whole(Panels, reference), "CompositeExplicitAutograd")
    LIBRARY.impl(name, _whole(Panels, cpu), "CPU")
    LIBRARY.impl(name, _whole(Tiles, gpu), "CUDA")
    torch.library.register_fake(f"eqnet::{name}", _whole(Panels, shape))
    torch.library.register_autograd(f"eqnet::{name}", backward, setup_context=context)


_register(
    "packed_linear",
    _linear_shape,
    _linear_reference,
    _linear_cpu,
    _linear_cuda,
    _linear_context,
    _linear_backward,
)
_register(
    "packed_linear_static",
    _static_shape,
    _static_reference,
    _static_cpu,
    _static_cuda,
    _static_context,
    _static_backward,
)
