"""Into which tiles the outputs of a convolution are divided."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from eqnet.export.tvm.recording import Size
from eqnet.export.tvm.tir.emit import Expr, bind, least, quotient, remainder

MOST_VECTORS = 8
"""Of output channels in a tile."""

MOST_PIXELS = 8
"""Of a tile: with more the code gets long, and no faster."""

PARALLEL_PRODUCTS = 500_000
"""Of one image, from which on threads save more than they cost: some microseconds."""

ENOUGH_TILES = 8
"""For threads to share."""

COST_OF_STEP = 1.0
"""What a step of four inputs takes beside its dot products and reading what they take, in dot products."""


@dataclass(frozen=True)
class Tiling:
    """Tiles of ``rows`` · ``columns`` pixels and ``vectors`` vectors of channels; the last ones overlap those before.

    Attributes:
        size: of the result.
        rows, columns: pixels of a tile.
        vectors: of a tile.
        groups: tiles along the channels.
        products: of one image.
    """

    size: Size
    rows: int
    columns: int
    vectors: int
    groups: int
    products: int

    @property
    def row_tiles(self) -> int:
        """Tiles along the rows."""
        return -(-self.size.height // self.rows)

    @property
    def column_tiles(self) -> int:
        """Tiles along the columns."""
        return -(-self.size.width // self.columns)

    @property
    def parallel_rows(self) -> bool:
        """Whether threads share the rows."""
        return self.products >= PARALLEL_PRODUCTS and not self.parallel_groups and self.row_tiles > 1

    @property
    def parallel_groups(self) -> bool:
        """Whether threads share the channels; where they share the rows, they meet after each group."""
        if self.products < PARALLEL_PRODUCTS or self.groups == 1:
            return False
        return self.groups >= ENOUGH_TILES or self.row_tiles < ENOUGH_TILES

    def row(self, number: Expr) -> tuple[Expr, Expr]:
        """The image and the first row of a tile, where tiles are counted through all images."""
        if self.row_tiles == 1:
            return number, 0
        y = remainder(number, self.row_tiles) * self.rows
        return bind(quotient(number, self.row_tiles)), bind(least(y, self.size.height - self.rows))

    def column(self, number: Expr) -> Expr:
        """The first column of a tile."""
        if self.column_tiles == 1:
            return 0
        return bind(least(number * self.columns, self.size.width - self.columns))


def tiling(size: Size, panels: int, registers: int, held: int, extra: int, products: int) -> Tiling:
    """The tiles that take the fewest steps.

    Args:
        size: of the result.
        panels: vectors of all channels.
        registers: there are.
        held: registers for each vector of each pixel.
        extra: registers for each pixel.
        products: of one image's pixel.
    """
    best: tuple[float, Tiling] | None = None
    for vectors, most in itertools.product(range(1, min(panels, MOST_VECTORS) + 1), range(1, MOST_PIXELS + 1)):
        if most > 1 and most * (vectors * held + extra) + vectors + 2 > registers:
            break
        rows, columns = _shape(size, most)
        groups, pixels = -(-panels // vectors), rows * columns
        found = Tiling(size, rows, columns, vectors, groups, products * size.pixels)
        step = max(pixels * (vectors + extra), pixels + vectors) + COST_OF_STEP
        cost = groups * found.row_tiles * found.column_tiles * step
        if best is None or cost < best[0]:
            best = cost, found
    assert best is not None  # one pixel of one vector always can be
    return best[1]


def _shape(size: Size, most: int) -> tuple[int, int]:
    """Rows and columns of a tile of at most so many pixels; tiles are as equal as they can be."""
    if size.width > most:
        return 1, -(-size.width // -(-size.width // most))
    rows = min(size.height, most // size.width)
    return -(-size.height // -(-size.height // rows)), size.width
