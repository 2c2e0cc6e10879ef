"""Products of rows of inputs and packed weights, on the CPU.

A panel of weights is unpacked a vector at a time. Few rows are multiplied right then; for many, the panel is unpacked
once, to memory that stays in the cache. Inputs are floating point, or 16-bit integers: codes less their zero point.
Sums are taken group by group, exact ones of integers, and then scaled.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial, reduce
from math import gcd
from operator import add
from typing import Any

from tvm.tirx.script.builder import ir as T

from eqnet.export.tvm.layers.panels import Panels
from eqnet.export.tvm.layers.unpacking import Unpacker
from eqnet.export.tvm.tir.emit import (
    Argument,
    Buffer,
    Expr,
    bind,
    function,
    least,
    load,
    local,
    loop,
    scratch,
    splat,
    store,
    vector,
)

LANES = 32
"""Rows of the weight in a panel."""

VECTOR = 16
"""Of them at once: a register of AVX-512, several of others."""

FEW_ROWS = (4, 1)
"""Rows of inputs that are multiplied with a vector of weights as it is unpacked; what is left is taken one by one."""

MANY_ROWS = 8
"""Rows of inputs that are multiplied with unpacked panels at once, which are made from so many rows on."""

CHAINS = 4
"""Sums that are under way at once, at least, as additions take some cycles each."""

PARALLEL_WEIGHTS = 1 << 17
"""From so many on threads save more than they cost."""

UNROLLED = 8
"""Columns that are written out one after the other, so that shifts are constants."""


Weight = Callable[[Expr, Expr, int], Expr]
Input = Callable[[int, Expr], Expr]


@dataclass(frozen=True)
class Linear:
    """What such a function computes: float32 [N, rows] of [N, cols].

    Attributes:
        panels: of the weight, with ``LANES`` lanes.
        biased: whether a bias, float32 [panels, lanes], is added.
        integer: whether inputs are int16; else they are float32.
    """

    panels: Panels
    biased: bool
    integer: bool

    def function(self) -> Any:
        """The TIR function of the input, ``panels.arrays``, the bias if there is one, and the result."""
        arrays = [Argument(0, str(array.dtype), shape=array.shape) for array in self.panels.arrays]
        bias = [Argument(0, "float32", shape=(len(self.panels.scale), LANES))][: self.biased]
        x = Argument(self.panels.cols, self.input_type, by_image=True)
        y = Argument(self.panels.rows, "float32", by_image=True)
        return function([x, *arrays, *bias, y], lambda rows, buffers: _Body(self, rows, buffers).write())

    @property
    def key(self) -> Hashable:
        """Equal for specifications of equal functions."""
        return self.panels.layout, self.biased, self.integer

    @property
    def input_type(self) -> str:
        """Of inputs, and of weights as they are multiplied."""
        return "int16" if self.integer else "float32"

    @property
    def sum_type(self) -> str:
        """Of the products of one group."""
        return "int32" if self.integer else "float32"


class _Body:
    def __init__(self, spec: Linear, rows: Expr, buffers: list[Buffer]) -> None:
        self.spec, self.panels, self.rows = spec, spec.panels, rows
        self.x, self.y = buffers[0], buffers[-1]
        self.bias = buffers[-2] if spec.biased else None
        self.weight = Unpacker(spec.panels, buffers[1:])

    def write(self) -> None:
        panels = len(self.panels.scale)
        parallel = self.panels.rows * self.panels.cols >= PARALLEL_WEIGHTS
        with T.If(self.rows >= MANY_ROWS):
            with T.Then():
                tiles = (self.rows + MANY_ROWS - 1) // MANY_ROWS
                inputs = self._gathered(tiles)
                with loop(panels, parallel=parallel) as panel:
                    unpacked = self._unpacked(panel)
                    with T.serial(0, tiles) as tile:
                        self._tile_of_many(panel, tile, inputs, unpacked)
            with T.Else(), loop(panels, parallel=parallel) as panel:
                self._tiles_of_few(panel)

    def _gathered(self, tiles: Expr) -> Buffer:
        """Inputs [tiles, cols, rows of a tile]: rows at a distance would evict each other from the cache."""
        size = self.panels.cols * MANY_ROWS
        memory = scratch(tiles * size, self.spec.input_type)
        with T.serial(0, tiles) as tile, T.serial(0, self.panels.cols) as column:
            for row in range(MANY_ROWS):
                value = self.x[least(tile * MANY_ROWS + row, self.rows - 1), column]
                store(memory, value, 1, tile * size + column * MANY_ROWS + row)
        return memory

    def _tile_of_many(self, panel: Expr, tile: Expr, inputs: Buffer, unpacked: Buffer) -> None:
        first, size = tile * MANY_ROWS, self.panels.cols * MANY_ROWS
        _Tile(
            self,
            panel,
            MANY_ROWS,
            lambda group, column, at: load(unpacked, VECTOR, column * LANES + at),
            lambda row, column: inputs[tile * size + column * MANY_ROWS + row],
            1,
        ).write(first)

    def _tiles_of_few(self, panel: Expr) -> None:
        """As many of the greatest height as there are, then of the next."""
        first: Expr = 0
        for height in FEW_ROWS:
            tiles = (self.rows - first) // height
            with T.serial(0, tiles) as tile:
                self._tile_of_few(panel, bind(first + tile * height), height)
            first = first + tiles * height

    def _tile_of_few(self, panel: Expr, first: Expr, height: int) -> None:
        _Tile(
            self,
            panel,
            height,
            lambda group, column, at: self._vector(panel, group, column, at),
            lambda row, column: self.x[first + row, column],
            UNROLLED,
        ).write(first)

    def _vector(self, panel: Expr, group: Expr, column: Expr, at: int) -> Expr:
        stored = self.weight.stored(panel, column, at, VECTOR)
        return T.Cast(vector(self.spec.input_type, VECTOR), stored - self.weight.zero(panel, group, at, VECTOR))

    def _unpacked(self, panel: Expr) -> Buffer:
        memory = scratch(self.panels.cols * LANES, self.spec.input_type)

        def unpack(group: Expr, column: Expr, _: int) -> None:
            for at in range(0, LANES, VECTOR):
                store(memory, self._vector(panel, group, column, at), VECTOR, column * LANES + at)

        self.groups(lambda group, size: self.columns(group, size, unpack))
        return memory

    def groups(self, body: Callable[[Expr, int], None]) -> None:
        """Writes ``body(group, columns in it)`` for all groups."""
        size, (whole, rest) = self.panels.group, divmod(self.panels.cols, self.panels.group)
        if whole:
            with loop(whole) as group:
                body(group, size)
        if rest:
            body(whole, rest)

    def columns(self, group: Expr, size: int, body: Callable[[Expr, Expr, int], None], most: int = UNROLLED) -> None:
        """Writes ``body(group, column, step)`` for the columns of a group; at most ``most`` are written out."""
        first = group * self.panels.group
        unrolled = size if size <= most else gcd(gcd(size, self.panels.group), most)
        with loop(size // unrolled) as step:
            for i in range(unrolled):
                body(group, first + step * unrolled + i, i)


class _Tile:
    """Some rows of inputs times one panel.

    Args:
        body: of the function.
        panel: its number.
        height: rows of inputs.
        weight: a vector of weights, from the group, the column and the first lane.
        input: one input, from the row of the tile and the column.
        unrolled: columns that are written out one after the other.
    """

    def __init__(self, body: _Body, panel: Expr, height: int, weight: Weight, input: Input, unrolled: int) -> None:
        self.body, self.panel, self.weight, self.input, self.unrolled = body, panel, weight, input, unrolled
        self.vectors = [(row, at) for row in range(height) for at in range(0, LANES, VECTOR)]

    def write(self, first: Expr) -> None:
        """Writes the statements; ``first`` is the row of the first input."""
        body, sum_type = self.body, self.body.spec.sum_type
        chains = max(1, CHAINS // len(self.vectors)) * len(self.vectors)
        totals = [local("float32", VECTOR) for _ in self.vectors]
        sums = [local(sum_type, VECTOR) for _ in range(chains)]
        for (_, at), total in zip(self.vectors, totals, strict=True):
            start = splat(T.float32(0), VECTOR) if body.bias is None else load(body.bias, VECTOR, self.panel, at)
            store(total, start, VECTOR, 0)

        def add_group(group: Expr, size: int) -> None:
            for sum_ in sums:
                store(sum_, splat(T.Cast(sum_type, T.int32(0)), VECTOR), VECTOR, 0)
            body.columns(group, size, partial(self._multiply, sums), self.unrolled)
            for i, ((_, at), total) in enumerate(zip(self.vectors, totals, strict=True)):
                value = reduce(add, (load(sum_, VECTOR, 0) for sum_ in sums[i :: len(totals)]))
                scaled = T.Cast(vector("float32", VECTOR), value) * body.weight.scale(self.panel, group, at, VECTOR)
                store(total, load(total, VECTOR, 0) + scaled, VECTOR, 0)

        body.groups(add_group)
        self._finish(totals, first)

    def _multiply(self, sums: list[Buffer], group: Expr, column: Expr, step: int) -> None:
        """Adds the products of one column, in turn to each of the sums of a result."""
        sum_type = self.body.spec.sum_type
        weights = {
            at: bind(T.Cast(vector(sum_type, VECTOR), self.weight(group, column, at))) for at in range(0, LANES, VECTOR)
        }
        for i, (row, at) in enumerate(self.vectors, step * len(self.vectors)):
            x, sum_ = T.Cast(sum_type, self.input(row, column)), sums[i % len(sums)]
            store(sum_, load(sum_, VECTOR, 0) + splat(x, VECTOR) * weights[at], VECTOR, 0)

    def _finish(self, totals: list[Buffer], first: Expr) -> None:
        """Stores what there is of the tile: the last panel may have fewer lanes, and the last tile fewer rows."""
        body, (whole, rest) = self.body, divmod(self.body.panels.rows, LANES)

        def write(lanes: int) -> None:
            for (row, at), total in zip(self.vectors, totals, strict=True):
                if at < lanes:
                    with T.If(first + row < body.rows), T.Then():
                        self._store(total, first + row, self.panel * LANES + at, min(VECTOR, lanes - at))

        if not rest or not whole:
            write(rest or LANES)
            return
        with T.If(self.panel < whole):
            with T.Then():
                write(LANES)
            with T.Else():
                write(rest)

    def _store(self, total: Buffer, row: Expr, column: Expr, lanes: int) -> None:
        if lanes == VECTOR:
            store(self.body.y, load(total, VECTOR, 0), VECTOR, row, column)
            return
        with T.serial(0, lanes) as lane:
            store(self.body.y, total[lane], 1, row, column + lane)
