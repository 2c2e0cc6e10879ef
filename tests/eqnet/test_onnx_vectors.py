"""The official ONNX backend test vectors, reproduced by eqnet's own arithmetic: every integer and every float, exactly.

ONNX's signed codes with a zero point other than 0 are eqnet's asymmetric codes less half their range; so such codes and
their zero points are shifted alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eqnet.formats import Format, Granularity
from eqnet.ops import Panels, fake_quantize, packed_linear_static
from eqnet.packed.layers import PACKED, InputRange
from eqnet.packed.model import PackedModel
from eqnet.packed.planes import pack
from eqnet.packed.record import Record
from eqnet.packed.tensor import PackedTensor
from eqnet.runtime import compile
from tests.eqnet.onnx_vectors import OPERATORS, Vector, vectors

LEFT_OUT = {
    "FLOAT8E4M3FN": "codes of eqnet are integers",
    "FLOAT8E5M2": "codes of eqnet are integers",
    "FLOAT4E2M1": "codes of eqnet are integers",
    "INT16": "codes of eqnet have 2 to 8 bits",
    "UINT16": "codes of eqnet have 2 to 8 bits",
}
"""Types of codes that eqnet does not have, and why."""

OF_CODES = {"QuantizeLinear": 0, "DequantizeLinear": "x"}
"""Which tensor's type is that of the codes; of other operators all codes have types that eqnet has."""

VECTORS = vectors()
COVERED = [name for name, v in VECTORS.items() if v.kinds.get(OF_CODES.get(v.operator, ""), "") not in LEFT_OUT]


@dataclass(frozen=True)
class Codes:
    """A matrix of codes with all that they mean, as eqnet has it.

    Attributes:
        format: of the codes.
        codes: [rows, cols].
        scale, zero: of the format's ``scale_shape``.
        shift: what was added to ONNX's codes.
    """

    format: Format
    codes: Tensor
    scale: Tensor
    zero: Tensor
    shift: int

    @classmethod
    def of(
        cls,
        kind: str,
        codes: NDArray[Any],
        scale: NDArray[Any] | float,
        zero: NDArray[Any] | int | None,
        group: int = 0,
    ) -> Codes:
        """From ONNX's: the type of a code, [rows, cols], and one scale and zero point, or [rows], or [rows, groups]."""
        match = re.fullmatch(r"(U?)INT([0-9]+)", kind)
        assert match is not None, f"codes of type {kind} are not covered"
        zero = np.zeros(np.shape(scale)) if zero is None else np.asarray(zero)
        bits, symmetric = int(match[2]), not match[1] and not zero.any()
        shift = 0 if match[1] or symmetric else 1 << (bits - 1)
        granularity = Granularity.GROUP if group else Granularity.CHANNEL if zero.size > 1 else Granularity.TENSOR
        fmt = Format(bits, symmetric, granularity, group)
        shape = fmt.scale_shape(*codes.shape)
        scales = torch.from_numpy(np.broadcast_to(np.asarray(scale).reshape(-1, max(shape[1], 1)), shape).copy())
        zeros = torch.from_numpy(zero.astype(np.int16).reshape(shape)) + shift
        return cls(fmt, torch.from_numpy(codes.astype(np.int16)) + shift, scales, zeros, shift)

    def packed(self) -> PackedTensor:
        """In exactly their bits."""
        fmt = self.format
        zero = None if fmt.symmetric else pack(self.zero, fmt.bits)
        return PackedTensor(fmt, *self.codes.shape, pack(self.codes - fmt.qmin, fmt.bits), self.scale, zero)

    def coded(self, x: Tensor) -> Tensor:
        """ONNX's codes of ``x`` [rows, cols], as ``fake_quantize`` gives what they stand for."""
        fmt, scale, zero = self.format, self.scale.float(), self.zero.float()
        y = fake_quantize(x, scale, zero, fmt.group_size or x.numel() // len(scale), fmt.qmin, fmt.qmax)
        scale, zero = (
            part.repeat_interleave(fmt.group_size or x.shape[1], 1)[:, : x.shape[1]] for part in (scale, zero)
        )
        return (y / scale).round() + zero - self.shift

    def values(self) -> Tensor:
        """What the codes stand for, float32 [rows, cols]."""
        return self.packed().dequantize()

    def as_input(self) -> InputRange:
        """The static quantization of a layer's input."""
        return InputRange(self.format, self.scale.float().view(1), self.zero.view(1))


def laid_out(vector: Vector, values: str, scale: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """How tensors like ``values``, and their parameters, become matrices whose rows or groups share a scale."""
    axis, block = (vector.attributes.get(name, default) for name, default in (("axis", 1), ("block_size", 0)))
    if block:
        return lambda part: np.moveaxis(part, axis, -1).reshape(-1, part.shape[axis])
    if vector.inputs[scale].size == 1:
        return lambda part: part.reshape(1, -1)
    rows = vector.inputs[values].shape[axis]
    return lambda part: (np.moveaxis(part, axis, 0) if part.ndim > 1 else part).reshape(rows, -1)


def quantize(vector: Vector) -> None:
    given, (expected,) = vector.inputs, vector.outputs
    matrix = laid_out(vector, "x", "y_scale")
    zero, group = given.get("y_zero_point"), vector.attributes.get("block_size", 0)
    codes = Codes.of(
        vector.kinds[0], matrix(expected), matrix(given["y_scale"]), None if zero is None else matrix(zero), group
    )
    np.testing.assert_array_equal(codes.coded(torch.from_numpy(matrix(given["x"]))), matrix(expected).astype(int))


def dequantize(vector: Vector) -> None:
    given, (expected,) = vector.inputs, vector.outputs
    matrix = laid_out(vector, "x", "x_scale")
    zero, group = given.get("x_zero_point"), vector.attributes.get("block_size", 0)
    codes = Codes.of(
        vector.kinds["x"], matrix(given["x"]), matrix(given["x_scale"]), None if zero is None else matrix(zero), group
    )
    np.testing.assert_array_equal(codes.values(), matrix(expected))


def quantize_by_own_range(vector: Vector) -> None:
    """The codes, in the range that the operator gives: eqnet's ranges are learned, not taken from one input."""
    expected, scale, zero = vector.outputs
    codes = Codes.of(vector.kinds[0], expected.reshape(1, -1), scale, zero)
    np.testing.assert_array_equal(
        codes.coded(torch.from_numpy(vector.inputs["x"].reshape(1, -1))), expected.reshape(1, -1)
    )


def convolve(x: Codes, weight: Codes, vector: Vector) -> Tensor:
    """A network of one packed convolution, as one program on integers: [1, out_channels, height, width]."""
    assert set(vector.attributes) <= {"pads"}, "other hyperparameters are not covered"
    shape, (rows, channels, *kernel) = vector.inputs["x"].shape, vector.inputs["w"].shape
    top, left, bottom, right = vector.attributes.get("pads", (0, 0, 0, 0))
    assert (top, left) == (bottom, right), "such padding is not covered"
    layer = nn.Conv2d(channels, rows, (kernel[0], kernel[1]), padding=(top, left), bias=False)
    packed = PACKED[nn.Conv2d].convert(layer, "conv", weight.packed(), None, x.as_input())
    image = x.values().view(shape)
    return compile(PackedModel(packed, Record({})), image)(image)


def multiply(x: Codes, weight: Codes) -> Tensor:
    """A linear layer on packed weights: [rows, outputs]."""
    panels, input_range = Panels.of(weight.packed()), x.as_input()
    correction = panels.dequantize().sum(1)
    return packed_linear_static(
        x.values(), panels, None, correction, x.format, float(input_range.scale), int(input_range.zero_point)
    )


def convolve_integers(vector: Vector) -> None:
    given, kinds = vector.inputs, vector.kinds
    x = Codes.of(kinds["x"], given["x"].reshape(1, -1), np.float32(1), given.get("x_zero_point"))
    flat = given["w"].reshape(len(given["w"]), -1)
    weight = Codes.of(kinds["w"], flat, np.float32(1), given.get("w_zero_point"))
    np.testing.assert_array_equal(convolve(x, weight, vector), vector.outputs[0])


def convolve_codes(vector: Vector) -> None:
    given, kinds, (expected,) = vector.inputs, vector.kinds, vector.outputs
    x = Codes.of(kinds["x"], given["x"].reshape(1, -1), given["x_scale"], given["x_zero_point"])
    weight = Codes.of(kinds["w"], given["w"].reshape(len(given["w"]), -1), given["w_scale"], given["w_zero_point"])
    y = Codes.of(kinds[0], expected.reshape(1, -1), given["y_scale"], given["y_zero_point"])
    np.testing.assert_array_equal(y.coded(convolve(x, weight, vector).view(1, -1)), expected.reshape(1, -1))


def multiply_integers(vector: Vector) -> None:
    given, kinds = vector.inputs, vector.kinds
    a = Codes.of(kinds["A"], given["A"], np.float32(1), given.get("a_zero_point"))
    b = Codes.of(kinds["B"], given["B"].T, np.float32(1), given.get("b_zero_point"))
    np.testing.assert_array_equal(multiply(a, b), vector.outputs[0])


def multiply_codes(vector: Vector) -> None:
    given, kinds, (expected,) = vector.inputs, vector.kinds, vector.outputs
    many = (part.reshape(-1, *part.shape[-2:]) for part in (given["a"], given["b"], expected))
    for first, second, result in zip(*many, strict=True):
        a = Codes.of(kinds["a"], first, given["a_scale"], given["a_zero_point"])
        b = Codes.of(kinds["b"], second.T, given["b_scale"], given["b_zero_point"])
        y = Codes.of(kinds[0], result, given["y_scale"], given["y_zero_point"])
        np.testing.assert_array_equal(y.coded(multiply(a, b)), result)


REPRODUCED: dict[str, Callable[[Vector], None]] = {
    "ConvInteger": convolve_integers,
    "DequantizeLinear": dequantize,
    "DynamicQuantizeLinear": quantize_by_own_range,
    "MatMulInteger": multiply_integers,
    "QLinearConv": convolve_codes,
    "QLinearMatMul": multiply_codes,
    "QuantizeLinear": quantize,
}
"""Checks a vector of each operator."""


@pytest.mark.parametrize("name", COVERED)
def test_reproduced(name: str) -> None:
    vector = VECTORS[name]
    assert vector.operator in REPRODUCED, f"{vector.operator} is not covered"
    REPRODUCED[vector.operator](vector)


def test_every_operator_that_quantizes_has_vectors_that_are_reproduced() -> None:
    assert sorted(REPRODUCED) == OPERATORS
    assert {VECTORS[name].operator for name in COVERED} == set(OPERATORS)


def test_only_types_that_eqnet_does_not_have_are_left_out() -> None:
    left = {v.kinds[OF_CODES[v.operator]] for name, v in VECTORS.items() if name not in COVERED}
    assert left == set(LEFT_OUT)
    kinds = {v.kinds[OF_CODES[v.operator]] for name, v in VECTORS.items() if name in COVERED and v.operator in OF_CODES}
    assert kinds >= {"INT2", "UINT2", "INT4", "UINT4", "UINT8"}, "the standard has no vectors of INT8 for these"
