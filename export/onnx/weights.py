"""Weights as operators: packed codes, and what makes numbers of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.codes import tensor, tensor_type
from eqnet.export.onnx.registry import Site
from eqnet.formats import Format, Granularity
from eqnet.packed.layers import PackedLayer
from eqnet.packed.tensor import PackedTensor

Array = np.ndarray[Any, Any]

_LARGEST_BIAS = 2.0**29
"""Of an integer bias, which shares 32 bits with the sums that it is added to."""

FINE_ENOUGH = 15
"""Bits of weight and input together from which on a bias may be rounded to a multiple of both scales.

It is off by half a unit at most, where results in floating point are some thousands of units.
"""

_SAFE_BITS = 7
"""Signed codes of so many bits never overflow the 16 bits in which some processors add two products with 8-bit inputs.

Products with inputs of fewer bits never do.
"""


@dataclass(frozen=True, eq=False)
class IntegerWeight:
    """A weight that an integer kernel takes: one scale for the tensor or for each channel.

    Attributes:
        fmt: of the codes.
        codes: makes them, int16; only when they are written, one weight after the other.
        shape: of the codes.
        name: of the codes in the file, behind that of the layer.
        source: what the codes are made of; weights of the same source and name are stored once.
        zero_point: int16 [1 or rows].
        scale: float32 [1 or rows]; none is 0.
        shift: by how many bits codes and zero points are shifted to the left when the file is loaded; ``scale`` is
            that of the shifted ones. Makes the unit in which a bias is rounded finer.
    """

    fmt: Format
    codes: Callable[[], Array]
    shape: tuple[int, ...]
    name: str
    source: object
    zero_point: Array
    scale: Array
    shift: int

    @classmethod
    def of(cls, layer: PackedLayer, *, finer: bool = True) -> IntegerWeight:
        """That of a layer with a quantized input, [rows, cols], with which it computes what it did.

        Integer kernels take the bias as an integer multiple of both scales. Where it is too large for that, beside
        next to nothing or 0, the channel gets a larger scale, and the codes that are closest.

        Args:
            layer: without scales for groups.
            finer: whether codes are shifted as far as that is possible.
        """
        assert layer.input_scale is not None
        assert layer.input_format is not None
        weight = layer.weight
        zero, scale = weight.zero_points().numpy().reshape(-1), weight.scale.float().numpy().reshape(-1)
        safe = _SAFE_BITS if weight.format.symmetric and layer.input_format.bits == 8 else 8
        shift = max(0, safe - weight.format.bits) if finer else 0
        least = np.zeros(1, np.float32)
        if layer.bias is not None:
            least = (layer.bias.abs() / layer.input_scale).numpy() * np.float32((1 << shift) / _LARGEST_BIAS)
        codes: Callable[[], Array] = lambda: weight.integers().numpy()  # noqa: E731
        source: object = layer.codes
        if not scale.all() or (np.abs(scale) < least).any():
            zero, fitted = np.broadcast_to(zero, weight.rows), _fitted(np.broadcast_to(scale, weight.rows), least)
            codes = source = partial(_fitted_codes, weight, fitted)
            scale = fitted
        of_shifted = (scale / np.float32(1 << shift)).astype(np.float32)
        return cls(weight.format, codes, (weight.rows, weight.cols), "weight", source, zero, of_shifted, shift)

    @property
    def bits(self) -> int:
        """Of the shifted codes."""
        return self.fmt.bits + self.shift

    def shaped(self, shape: tuple[int, ...]) -> IntegerWeight:
        """With codes [rows, ...]."""
        return replace(self, codes=lambda: self.codes().reshape(shape), shape=shape)

    def transposed(self) -> IntegerWeight:
        """With codes [cols, rows]."""
        return replace(self, codes=lambda: self.codes().T, shape=self.shape[::-1], name=f"{self.name}_T")

    def divided(self, by: Array) -> IntegerWeight:
        """With scales that are divided by ``by`` [rows]."""
        return replace(self, scale=(self.scale / by).astype(np.float32))

    def write(self, site: Site, axis: int) -> ir.Value:
        """The weight in floating point.

        Zero points of 0 are written, too: without them ONNX Runtime's precise mode for processors that have no VNNI
        takes no scales by channel, and MatMul does not become an integer kernel.

        Args:
            site: of the layer.
            axis: of ``codes``, if there is a scale for each output channel.
        """
        op = site.op
        stored = ir.LazyTensor(
            lambda: tensor(self.codes(), self.fmt), dtype=tensor_type(self.fmt), shape=ir.Shape(self.shape)
        )
        codes = site.shared(lambda: stored, self.name, self.source)
        inputs = [self._widened(site, codes), site.constant(_scalar(self.scale), "scale")]
        if not self.fmt.symmetric:
            zeros = site.constant(tensor(_scalar(self.zero_point), self.fmt), "zero_point")
            inputs.append(self._widened(site, zeros))
        else:
            inputs.append(site.constant(np.zeros(_scalar(self.scale).shape, np.int8), "zero_point"))
        attributes = {"axis": axis} if self.scale.size > 1 else {}
        weight: ir.Value = op.DequantizeLinear(*inputs, **attributes)
        return weight

    def _widened(self, site: Site, value: ir.Value) -> ir.Value:
        """Codes as INT8 or UINT8; ONNX Runtime computes this once, when it loads the file."""
        to = ir.DataType.INT8 if self.fmt.symmetric else ir.DataType.UINT8
        if self.shift:
            value = site.op.Cast(value, to=ir.DataType.INT32)
            value = site.op.Mul(value, site.constant(np.array(1 << self.shift, np.int32), "finer"))
            return site.op.Cast(value, to=to)
        return value if value.dtype == to else site.op.Cast(value, to=to)


def _fitted(scale: Array, least: Array) -> Array:
    """``scale`` [rows], but no smaller than ``least``, and 1 where both are 0."""
    larger = np.maximum(np.abs(scale), least)
    larger = np.where(larger == 0, 1, larger)
    return np.where(scale < 0, -larger, larger).astype(np.float32)


def _fitted_codes(weight: PackedTensor, scale: Array) -> Array:
    """Those that with ``scale`` [rows] come closest to ``weight``; the same where the scale is."""
    codes, zero, before = weight.integers().numpy(), weight.zero_points().numpy(), weight.scale.float().numpy()
    shrunk = np.rint((codes - zero) * (before / scale[:, None])).astype(np.int16) + zero
    return np.where(before == scale[:, None], codes, shrunk)


def _scalar(parts: Array) -> Array:
    """[n], or [] if n is 1."""
    return parts.reshape(()) if parts.size == 1 else parts


def dequantized(site: Site, arrange: Callable[[Array], Array] | None = None, axis: int = 0) -> ir.Value:
    """The weight of a layer in floating point, exactly, whatever its granularity.

    Args:
        site: of the layer.
        arrange: from codes [rows, cols] to the order in which they are written; not for groups.
        axis: of the output channels afterwards.

    Returns:
        float32, in that order; [rows, cols] without ``arrange``.
    """
    weight = site.layer.weight
    fmt = weight.format
    codes, zero, scale = weight.integers().numpy(), weight.zero_points().numpy(), weight.scale.float().numpy()
    attributes: dict[str, int] = {}
    if fmt.granularity is Granularity.GROUP and scale.shape[1] > 1:
        assert arrange is None
        attributes = {"axis": 1, "block_size": fmt.group_size}
    else:
        scale, zero = _scalar(scale.reshape(-1)), _scalar(zero.reshape(-1))
        attributes = {"axis": axis} if scale.ndim else {}
    inputs = [site.constant(tensor(arrange(codes) if arrange else codes, fmt), "weight"), site.constant(scale, "scale")]
    if not fmt.symmetric or tensor_type(fmt) is ir.DataType.INT8:  # see IntegerWeight.write
        inputs.append(site.constant(tensor(zero, fmt), "zero_point"))
    result: ir.Value = site.op.DequantizeLinear(*inputs, **attributes)
    return result


def is_grouped(layer: PackedLayer) -> bool:
    """Whether a row of the weight has more than one scale."""
    return layer.weight_format.granularity is Granularity.GROUP and layer.weight.scale.shape[1] > 1
