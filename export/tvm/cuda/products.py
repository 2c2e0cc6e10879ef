"""Products of rows of inputs and packed weights on a GPU: one kernel for few rows, which decoding is, one for many.

Weights lie row by row, so that threads next to each other read bytes that are. The kernel for few rows has some threads
for each row of the weight, that add up what they have; the one for many unpacks tiles of the weight to shared memory.
Both are schedules of one tensor expression by TVM's rules, and the host picks one by the number of rows.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

from tvm import relax, s_tir, te, tirx
from tvm.s_tir.dlight.gpu import Matmul
from tvm.s_tir.dlight.gpu.low_batch_gemv import LowBatchGEMV
from tvm.target import Target

from eqnet.export.tvm.layers.emission import Emitter, Product, shape_of
from eqnet.export.tvm.layers.panels import Panels
from eqnet.export.tvm.layers.unpacking import Unpacker
from eqnet.packed.layers import PackedLayer

Expr = Any

FEW_ROWS = 4
"""Rows of inputs up to which the first kernel is used; it computes as many at a time."""


@dataclass(frozen=True)
class ProductKernels:
    """float32 [N, rows] of [N, cols]; the scales of integers are part of those of the weight.

    Attributes:
        panels: of the weight, with one lane.
        biased: whether a bias, float32 [rows], is added.
        integer: whether inputs are int16, codes less their zero point; else they are float32.
    """

    panels: Panels
    biased: bool
    integer: bool

    def function(self, target: Target) -> Any:
        """The TIR function of the input, ``panels.arrays``, the bias if there is one, and the result."""
        rows = tirx.Var("rows", "int64")
        expression = self._expression(rows)
        with target:
            many = Tiles().apply(expression, target, False)
            few = LowBatchGEMV(FEW_ROWS).apply(expression, target, False)
        assert many is not None
        if few is None:
            return expression.with_body(many.mod["main"].body)
        is_few = tirx.op.tvm_thread_invariant(rows <= FEW_ROWS)  # threads can wait for each other in either
        either = tirx.IfThenElse(is_few, few.mod["main"].body, many.mod["main"].body)
        return expression.with_body(s_tir.SBlockRealize([], True, s_tir.SBlock([], [], [], "root", either)))

    @property
    def key(self) -> Hashable:
        """Equal for equal functions."""
        return self.panels.layout, self.biased, self.integer

    def _expression(self, rows: Expr) -> Any:
        panels = self.panels
        x = te.placeholder((rows, panels.cols), "int16" if self.integer else "float32", name="x")
        arrays = [te.placeholder(array.shape, str(array.dtype), name="packed") for array in panels.arrays]
        bias = [te.placeholder((panels.rows,), "float32", name="bias")][: self.biased]
        weight, column = Unpacker(panels, arrays), te.reduce_axis((0, panels.cols), name="column")
        exact = self.integer and panels.group >= panels.cols
        kind = "int32" if exact else "float32"

        def unpacked(row: Expr, at: Expr) -> Expr:
            return weight.integer(row, at, 0) if exact else weight.element(row, at)

        # By this name the rule for few rows knows what to keep in registers.
        dequantized = te.compute((panels.rows, panels.cols), unpacked, name="dequantize")
        sums = te.compute(
            (rows, panels.rows),
            lambda i, row: te.sum(tirx.Cast(kind, x[i, column]) * dequantized[row, column], axis=column),
            name="sums",
        )

        def finished(i: Expr, row: Expr) -> Expr:
            result = tirx.Cast("float32", sums[i, row]) * weight.scale(row, 0, 0) if exact else sums[i, row]
            return result + bias[0][row] if bias else result

        results = [te.compute((rows, panels.rows), finished, name="finished")] if bias or exact else [sums]
        function = te.create_prim_func([x, *arrays, *bias, *results], index_dtype_override="int64")
        return function.without_attr("global_symbol")  # else it would be another function "main"


class Tiles(Matmul):  # type: ignore[misc]  # TVM has no type information
    """TVM's schedule of products, but that loops are left for nvcc to unroll, which takes a tenth of the source."""

    def get_configs(self, target: Target) -> Any:
        """Sizes of tiles."""
        return replace(super().get_configs(target), unroll=0)


def cuda_product(target: Target) -> Product:
    """Products by these kernels."""

    def product(emitter: Emitter, layer: PackedLayer, x: Expr, input_scale: float | None) -> Expr:
        panels, constants = emitter.scaled(layer, 1, input_scale)
        if layer.bias is not None:
            constants = [*constants, relax.const(layer.bias.numpy())]
        kernels = ProductKernels(panels, layer.bias is not None, input_scale is not None)
        shape = shape_of(x)[0], layer.rows
        return emitter.called(kernels.key, lambda: kernels.function(target), [x, *constants], shape)

    return product
