"""What eqnet's linear kernels are to reach, each bar as a rule over the times of one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from linear_peers import Layer, Shape
from rounds import Timing

READ_SHARE = 0.85
"""Of the read bandwidth: one product from memory on one thread, 4 bits in groups of 32."""

PREFILL_GAIN = 1.3
"""Over the fastest peer with groups of 32, int8 activations."""

PEAK_SHARE = 0.60
"""Of the int8 products that registers alone allow, at PEAK_ROWS rows of activations or more."""

PEAK_ROWS = 256

NARROW = {3: 0.85, 2: 0.62}
"""Time over that of 4 bits, one row of activations from memory."""

NOISE = 1.03
"""Times of equal work differ by so much within a run."""

FLOAT_ERROR = 1e-6
"""Relative, of ``compute="float"`` against float64 on the dequantized weight."""


@dataclass(frozen=True)
class Cell:
    """One number of threads and of activation rows, with everything that was timed beside each other.

    Attributes:
        shape: of the weight, and the threads.
        m: rows of activations.
        cold: whether weights come from memory rather than from a cache.
        ours: seconds of one product, by eqnet's layer.
        theirs: the same for the peers.
        bandwidth: bytes read in a second.
        peak: int8 operations in a second, 0 if unknown.
        sure: whether both were measured undisturbed.
    """

    shape: Shape
    m: int
    cold: bool
    ours: dict[Layer, Timing]
    theirs: dict[Layer, Timing]
    bandwidth: float
    peak: float
    sure: bool

    def mine(self, bits: int, group: int, compute: str) -> tuple[Layer, float] | None:
        """The layer of eqnet in this format and its median seconds; None if it was not measured."""
        for layer, timing in self.ours.items():
            if (layer.bits, layer.group, layer.compute) == (bits, group, compute):
                return layer, timing.median
        return None

    def fastest(self, accept: Callable[[Layer], bool]) -> tuple[Layer, float] | None:
        """The fastest of the peers that are accepted."""
        accepted = [(layer, timing.median) for layer, timing in self.theirs.items() if accept(layer)]
        return min(accepted, key=lambda pair: pair[1], default=None)


@dataclass(frozen=True)
class Point:
    """One figure beside its bar.

    Attributes:
        bar: which of the bars.
        where: threads, rows of activations, and where the weight comes from.
        ours: eqnet's layer.
        against: what it is compared with.
        figure: the ratio.
        limit: what the ratio is to reach.
        at_least: whether the ratio is to be as large as the limit, rather than as small.
    """

    bar: str
    where: str
    ours: str
    against: str
    figure: float
    limit: float
    at_least: bool = True

    @property
    def margin(self) -> float:
        """1 where the bar is just met, more where it is passed."""
        return self.figure / self.limit if self.at_least else self.limit / self.figure

    @property
    def met(self) -> bool:
        return self.margin >= 1


def points(cell: Cell) -> Iterator[Point]:
    """Every figure of one cell."""
    for rule in (read_share, decode, prefill, peak_share, exact, widths, narrow):
        yield from rule(cell)


def read_share(cell: Cell) -> Iterator[Point]:
    for compute in ("int8", "float"):
        mine = cell.mine(4, 32, compute)
        if mine and cell.m == 1 and cell.cold and cell.shape.threads == 1:
            layer, seconds = mine
            share = layer.nbytes / seconds / cell.bandwidth
            yield Point("share of read bandwidth", _where(cell), layer.name, "reading alone", share, READ_SHARE)


def decode(cell: Cell) -> Iterator[Point]:
    """Against whatever stores as much; exact activations are held against exact ones in ``exact``."""
    for group in (32, 128):
        mine = cell.mine(4, group, "int8")
        if mine and cell.m == 1:
            bpw = mine[0].bpw(cell.shape)
            yield from _beside("decode", cell, mine, cell.fastest(lambda p, bpw=bpw: p.bpw(cell.shape) >= bpw), 1.0)


def prefill(cell: Cell) -> Iterator[Point]:
    mine = cell.mine(4, 32, "int8")
    if mine and cell.m >= 4:
        peer = cell.fastest(lambda p: p.group == 32 and p.bits >= 4)
        yield from _beside("prefill, groups of 32", cell, mine, peer, PREFILL_GAIN)


def peak_share(cell: Cell) -> Iterator[Point]:
    mine = cell.mine(4, 32, "int8")
    if mine and cell.m >= PEAK_ROWS and cell.peak:
        layer, seconds = mine
        share = 2 * cell.m * cell.shape.rows * cell.shape.cols / seconds / cell.peak
        yield Point("share of int8 peak", _where(cell), layer.name, "registers alone", share, PEAK_SHARE)


def exact(cell: Cell) -> Iterator[Point]:
    """Every width with exact activations, against the 4 bits of the peer that has them."""
    peer = cell.fastest(lambda p: (p.owner, p.bits, p.group, p.compute) == ("onnxruntime", 4, 32, "float"))
    for bits in range(2, 9):
        yield from _beside("float against accuracy 0", cell, cell.mine(bits, 32, "float"), peer, 1.0)


def widths(cell: Cell) -> Iterator[Point]:
    """No width is slower than 4 bits by more than its bytes."""
    base = cell.mine(4, 32, "float")
    for bits in (2, 3, 5, 6, 7, 8):
        mine = cell.mine(bits, 32, "float")
        if base and mine:
            limit = max(NOISE, mine[0].nbytes / base[0].nbytes)
            ratio = mine[1] / base[1]
            yield Point("width over 4 bits", _where(cell), mine[0].name, base[0].name, ratio, limit, at_least=False)


def narrow(cell: Cell) -> Iterator[Point]:
    for group, compute in ((32, "int8"), (128, "int8"), (32, "float"), (128, "float")):
        base = cell.mine(4, group, compute)
        for bits, limit in NARROW.items():
            mine = cell.mine(bits, group, compute)
            if base and mine and cell.m == 1 and cell.cold:
                ratio = mine[1] / base[1]
                name = f"{bits} bits over 4 bits"
                yield Point(name, _where(cell), mine[0].name, base[0].name, ratio, limit, at_least=False)


def summary(reached: Sequence[Point]) -> list[dict[str, object]]:
    """One row a bar: how many of its points meet it, and which is the furthest from it."""
    rows: list[dict[str, object]] = []
    for bar in dict.fromkeys(point.bar for point in reached):
        of = [point for point in reached if point.bar == bar]
        worst = min(of, key=lambda point: point.margin)
        rows.append(
            {
                "bar": bar,
                "met": f"{sum(point.met for point in of)} of {len(of)}",
                "worst": worst.figure,
                "limit": _limit(worst),
                "where": f"{worst.where}: {worst.ours} against {worst.against}",
            }
        )
    return rows


def row(point: Point) -> dict[str, object]:
    """A point as a line of the table."""
    return {
        "bar": point.bar,
        "where": point.where,
        "eqnet": point.ours,
        "against": point.against,
        "ratio": point.figure,
        "limit": _limit(point),
        "met": "yes" if point.met else "NO",
    }


def _beside(
    bar: str, cell: Cell, mine: tuple[Layer, float] | None, peer: tuple[Layer, float] | None, limit: float
) -> Iterator[Point]:
    """How many times faster than a peer, if both were measured."""
    if mine and peer:
        yield Point(bar, _where(cell), mine[0].name, peer[0].name, peer[1] / mine[1], limit)


def _where(cell: Cell) -> str:
    return f"{cell.shape.threads}T M={cell.m} {'cold' if cell.cold else 'hot'}"


def _limit(point: Point) -> str:
    return f"{'≥' if point.at_least else '≤'} {point.limit:.3g}"
