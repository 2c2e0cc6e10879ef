"""The linear kernels beside what the machine can do, for every width."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eqnet.bench.roofline import Limit, limits
from eqnet.bench.timing import Call, in_turn
from eqnet.formats import MAX_BITS, MIN_BITS, Format, Granularity
from eqnet.native import COMPUTE
from eqnet.ops.linear import packed_linear
from eqnet.ops.panels import Panels
from eqnet.packed.planes import plane_bytes
from eqnet.packed.tensor import PackedTensor
from eqnet.threads import threads

GROUPS = (32, 128, 0)
"""Columns that share a scale; 0 is one scale for each output channel."""

ROWS = {"decode": 1, "prefill": 64}
"""Of activations: one token, whose weights come from memory; many tokens, whose weights are in a cache."""

COLD_BYTES = 128 << 20
"""Of copies of a weight that are used in turn, so that each comes from memory."""

BLOCK = 0.003
"""Seconds for which a kernel is repeated before it is the next one's turn."""

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class KernelSpeed:
    """How fast one kernel is.

    Attributes:
        threads: that it uses.
        bits: of a code.
        group: columns that share a scale; 0 is a whole row.
        stage: ``decode`` or ``prefill``.
        compute: what products are taken in, ``float`` or ``int8``.
        seconds: of one product, the median.
        bytes_per_second: of the stored weight.
        operations_per_second: a product and its addition being two.
        roofline: the share of the least time that the machine needs to read the weight from where it is, or to make
            the operations, whichever is longer.
    """

    threads: int
    bits: int
    group: int
    stage: str
    compute: str
    seconds: float
    bytes_per_second: float
    operations_per_second: float
    roofline: float


@dataclass(frozen=True)
class Sweep:
    """All kernels beside the machine.

    Attributes:
        limits: by number of threads and by name, bytes and operations a second, of the best round.
        kernels: their speeds.
    """

    limits: dict[int, dict[str, float]]
    kernels: tuple[KernelSpeed, ...]


def sweep(shape: tuple[int, int], thread_counts: Sequence[int], seconds: float, report: Report | None = None) -> Sweep:
    """Times a product with a weight of ``shape`` in every width, group size, stage and way to compute.

    The machine's limits are measured in the same rounds.

    Args:
        shape: output channels and columns.
        thread_counts: threads to use.
        seconds: for all of it, beside the preparation of weights.
        report: told (stage, done, total).
    """
    formats = list(itertools.product(range(MIN_BITS, MAX_BITS + 1), GROUPS))
    total = len(formats) * len(thread_counts)
    best: dict[int, dict[str, float]] = {}
    cells: list[_Cell] = []
    for count in thread_counts:
        machine = limits(count)
        rate = best[count] = dict.fromkeys(machine, 0.0)
        for bits, group in formats:
            if report is not None:
                report("Timing kernels", len(cells), total)
            with threads(count), torch.inference_mode():
                cells.append(_measured(shape, count, bits, group, machine, rate, seconds / total))
    if report is not None:
        report("Timing kernels", total, total)
    return Sweep(best, tuple(itertools.chain.from_iterable(_speeds(cell, best[cell.threads]) for cell in cells)))


@dataclass(frozen=True)
class _Cell:
    """Median seconds of the kernels of one weight, by stage and way to compute."""

    threads: int
    weight: PackedTensor
    seconds: dict[tuple[str, str], float]


def _measured(
    shape: tuple[int, int],
    count: int,
    bits: int,
    group: int,
    machine: Mapping[str, Limit],
    rate: dict[str, float],
    seconds: float,
) -> _Cell:
    """Times one format, and raises each limit in ``rate`` to what is seen of it."""
    weight = random_weight(shape, bits, group)
    copies = [Panels.of(weight) for _ in range(max(2, -(-COLD_BYTES // weight.nbytes)))]
    cases = [(stage, compute) for stage in ROWS for compute in COMPUTE]
    calls = [_call(copies if stage == "decode" else copies[:1], shape[1], stage, compute) for stage, compute in cases]
    taken = in_turn([*calls, *(limit.call for limit in machine.values())], seconds, BLOCK)
    for (name, limit), times in zip(machine.items(), taken[len(cases) :], strict=True):
        rate[name] = max(rate[name], limit.rate(times.best))
    return _Cell(count, weight, {case: times.median for case, times in zip(cases, taken)})


def _speeds(cell: _Cell, rate: Mapping[str, float]) -> Iterator[KernelSpeed]:
    weight = cell.weight
    for (stage, compute), time in cell.seconds.items():
        operations = 2.0 * ROWS[stage] * weight.rows * weight.cols
        reading = weight.nbytes / rate["memory" if stage == "decode" else "cache"]
        least = max(reading, operations / rate[compute])
        yield KernelSpeed(
            cell.threads,
            weight.format.bits,
            weight.format.group_size,
            stage,
            compute,
            time,
            weight.nbytes / time,
            operations / time,
            least / time,
        )


def _call(copies: list[Panels], cols: int, stage: str, compute: str) -> Call:
    x: Tensor = torch.randn(ROWS[stage], cols, generator=torch.Generator().manual_seed(0))
    turn = itertools.cycle(copies)
    return lambda: packed_linear(x, next(turn), compute=compute)


def random_weight(shape: tuple[int, int], bits: int, group: int) -> PackedTensor:
    """A symmetric weight of random codes, with float16 scales."""
    rows, cols = shape
    fmt = Format(bits, True, Granularity.GROUP, group) if group else Format(bits, True, Granularity.CHANNEL)
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(0, 256, (plane_bytes(rows * cols, bits),), generator=generator, dtype=torch.uint8)
    scale = torch.rand(fmt.scale_shape(rows, cols), generator=generator).half() / 2**bits
    return PackedTensor(fmt, rows, cols, codes, scale, None)
