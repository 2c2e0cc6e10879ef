"""The quantization of a layer's input as operators."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from eqnet.export.onnx.registry import Site


def quantized(site: Site, x: ir.Value, move: Callable[[ir.Value], ir.Value] = lambda codes: codes) -> ir.Value:
    """``x`` rounded to what its codes can hold; ``x`` itself if the layer takes it in floating point.

    Codes are UINT8, the type that ONNX Runtime is fastest with; signed ones are moved up by half of their range.

    Args:
        site: of the layer.
        x: float32.
        move: what is done to the codes in between, such as padding.
    """
    layer = site.layer
    if layer.input_format is None or layer.input_scale is None or layer.input_zero_point is None:
        return move(x)
    fmt = layer.input_format
    scale = site.constant(layer.input_scale.float().numpy().reshape(()), "input_scale")
    zero = site.constant(np.array(int(layer.input_zero_point) - fmt.qmin, np.uint8), "input_zero_point")
    codes = site.op.QuantizeLinear(x, scale, zero)
    if fmt.bits < 8:
        highest = site.constant(np.array(fmt.qmax - fmt.qmin, np.uint8), "input_highest")
        codes = site.op.Clip(codes, None, highest)
    result: ir.Value = site.op.DequantizeLinear(move(codes), scale, zero)
    return result
