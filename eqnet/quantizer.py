"""Learned scales and zero points of one tensor, one pair for every format that it may take."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from eqnet.errors import InputError
from eqnet.formats import Format
from eqnet.ops.fake_quantize import fake_quantize
from eqnet.ranges import search_range


class Quantizer(nn.Module):
    """Fake-quantizes a tensor in any of its formats.

    Every format has a scale and (if asymmetric) a zero point of its own for each tensor, channel or group, as
    in EQ-Net (arXiv 2308.07650, sec. 3.1). The scale is stored as its logarithm: it stays positive whatever the
    optimizer does, and a step changes it by a fraction of itself at every magnitude.

    Args:
        formats: the formats it can take.
        rows: output channels of the tensor as a matrix; 1 for an activation.
        cols: columns of that matrix, None for an activation, whose size varies.
        scale_dtype: what scales are stored in; they are rounded to it here, so that training sees what is
            deployed.
    """

    def __init__(
        self, formats: Iterable[Format], rows: int, cols: int | None, scale_dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.formats = tuple(dict.fromkeys(formats))
        self.rows, self.cols, self.scale_dtype = rows, cols, scale_dtype
        self.log_scale = nn.ParameterDict()
        self.zero_point = nn.ParameterDict()
        for fmt in self.formats:
            shape = fmt.scale_shape(rows, cols or 1)
            zeros = torch.zeros(shape, dtype=torch.float32)
            self.log_scale[str(fmt)] = nn.Parameter(zeros.clone())
            if not fmt.symmetric:
                self.zero_point[str(fmt)] = nn.Parameter(zeros.clone())
            self.register_buffer(f"zero {shape}", zeros, persistent=False)

    def initialize(self, x: Tensor, counts: Tensor | None = None) -> None:
        """Starts every format from the range that loses least of ``x``.

        Args:
            x: float32 [rows, cols]; for an activation the values of a histogram, [1, bins].
            counts: how often each value occurs, like ``x``; once each if None.
        """
        with torch.no_grad():
            for fmt in self.formats:
                scale, zero_point = search_range(x, fmt, counts)
                self.log_scale[str(fmt)].copy_(scale.log())
                if not fmt.symmetric:
                    self.zero_point[str(fmt)].copy_(zero_point)

    def scale(self, fmt: Format) -> Tensor:
        """The scale of ``fmt`` as it is stored, float32 [scale rows, groups]; differentiable."""
        if fmt not in self.formats:
            raise InputError(f"format {fmt} is not among {', '.join(map(str, self.formats))}")
        scale: Tensor = self.log_scale[str(fmt)].exp()
        if self.scale_dtype != torch.float32:
            # Straight-through: the rounded value forward, the gradient of the exact one backward.
            limits = torch.finfo(self.scale_dtype)
            stored = scale.detach().clamp(limits.tiny, limits.max).to(self.scale_dtype).float()
            scale = stored + (scale - scale.detach())
        return scale

    def integer_zero_point(self, fmt: Format) -> Tensor:
        """The zero point of ``fmt`` as it is stored, in codes: float32 integers [scale rows, groups]."""
        if fmt.symmetric:
            return torch.zeros_like(self.log_scale[str(fmt)])
        zero_point: Tensor = self.zero_point[str(fmt)]
        return zero_point.detach().round().clamp(fmt.qmin, fmt.qmax)

    def forward(self, x: Tensor, fmt: Format) -> Tensor:
        """Rounds ``x`` to what ``fmt`` can hold; keeps shape and dtype."""
        scale = self.scale(fmt)
        # LSQ's gradient scale, 1/sqrt(n·q_max) with n the elements that share one scale (Esser et al., 2020).
        if scale.requires_grad and scale.numel():
            scale = _scale_gradient(scale, 1 / math.sqrt(max(x.numel() // scale.numel(), 1) * fmt.qmax))
        zero_point = self.get_buffer(f"zero {tuple(scale.shape)}") if fmt.symmetric else self.zero_point[str(fmt)]
        group_size = fmt.group_size or max(x.numel() // scale.shape[0], 1)
        return fake_quantize(x.float(), scale, zero_point, group_size, fmt.qmin, fmt.qmax).to(x.dtype)

    def codes(self, x: Tensor, fmt: Format) -> Tensor:
        """The integers that ``x`` is stored as, int16 like ``x``; ``dequantize`` of them is ``forward``."""
        with torch.no_grad():
            matrix = x.reshape(self.rows, -1).float()
            scale, zero_point = self.expanded(fmt, matrix.shape[1])
            return ((matrix / scale).round() + zero_point).clamp(fmt.qmin, fmt.qmax).to(torch.int16).reshape(x.shape)

    def dequantize(self, codes: Tensor, fmt: Format) -> Tensor:
        """``(codes - zero point) · scale``, float32 like ``codes``."""
        with torch.no_grad():
            matrix = codes.reshape(self.rows, -1).float()
            scale, zero_point = self.expanded(fmt, matrix.shape[1])
            return ((matrix - zero_point) * scale).reshape(codes.shape)

    def expanded(self, fmt: Format, cols: int) -> tuple[Tensor, Tensor]:
        """Scale and zero point of every element: each broadcasts to [rows, cols]."""

        def expand(parameter: Tensor) -> Tensor:
            return parameter.repeat_interleave(fmt.group_size, 1)[:, :cols] if fmt.group_size else parameter

        return expand(self.scale(fmt).detach()), expand(self.integer_zero_point(fmt))


def _scale_gradient(x: Tensor, factor: float) -> Tensor:
    """``x`` forward, ``factor`` times its gradient backward."""
    value = x.detach()
    return value + (x - value) * factor
