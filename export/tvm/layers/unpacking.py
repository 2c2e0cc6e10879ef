"""TIR expressions for codes of ``Panels``, vectors of them or single ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm.tirx.script.builder import ir as T

from eqnet.export.tvm.layers.panels import Panels
from eqnet.export.tvm.tir.emit import Buffer, Expr, load, splat, vector


@dataclass(frozen=True, eq=False)
class Unpacker:
    """Reads a weight from the tensors that its ``Panels.arrays`` are.

    Attributes:
        panels: shapes and formats.
        tensors: in the order of the arrays; buffers, or tensors of tensor expressions. Others may follow.
    """

    panels: Panels
    tensors: Sequence[Buffer]

    def integer(self, panel: Expr, column: Expr, lane: Expr, lanes: int = 1) -> Expr:
        """Codes less their zero points, int32, of ``lanes`` rows from ``lane`` on; zero points are of one group."""
        return self.stored(panel, column, lane, lanes) - self.zero(panel, self.group_of(column), lane, lanes)

    def stored(self, panel: Expr, column: Expr, lane: Expr, lanes: int = 1) -> Expr:
        """Codes as they are stored, from 0, int32."""
        code, done = None, 0
        for width, plane in zip(self.panels.widths, self.tensors, strict=False):
            part = load(plane, lanes, panel, column // (8 // width), lane)
            if width < 8:  # bytes are shifted as bytes: a vector of them is short, and indices may be of any type
                shift = _uint8(column % (8 // width) * width)
                part = T.bitwise_and(T.shift_right(part, splat(shift, lanes)), splat(T.uint8((1 << width) - 1), lanes))
            if done:
                part = T.shift_left(part, splat(T.uint8(done), lanes))
            code = part if code is None else T.bitwise_or(code, part)
            done += width
        return T.Cast(vector("int32", lanes), code)

    def zero(self, panel: Expr, group: Expr, lane: Expr, lanes: int = 1) -> Expr:
        """Zero points, int32."""
        if isinstance(self.panels.zero, int):
            return splat(T.int32(self.panels.zero), lanes)
        return T.Cast(
            vector("int32", lanes), load(self.tensors[len(self.panels.planes) + 1], lanes, panel, group, lane)
        )

    def scale(self, panel: Expr, group: Expr, lane: Expr, lanes: int = 1) -> Expr:
        """Scales, float32."""
        return load(self.tensors[len(self.panels.planes)], lanes, panel, group, lane)

    def element(self, row: Expr, column: Expr) -> Expr:
        """One weight, float32."""
        panel, lane = (row, 0) if self.panels.lanes == 1 else (row // self.panels.lanes, row % self.panels.lanes)
        scale = self.scale(panel, self.group_of(column), lane)
        return T.Cast("float32", self.integer(panel, column, lane)) * scale

    def group_of(self, column: Expr) -> Expr:
        """The number of the group."""
        return 0 if self.panels.group >= self.panels.cols else column // self.panels.group


def _uint8(number: Expr) -> Expr:
    return T.uint8(number) if isinstance(number, int) else T.Cast("uint8", number)
