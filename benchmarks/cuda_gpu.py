"""The kernels for GPUs on a GPU: each against float64, then beside the GPU's ceilings and its peers.

One command for any GPU (compute capability 7.5 and up)::

    python benchmarks/cuda_gpu.py

``--check`` leaves the times out, ``--every 5`` takes one case in five. Times are those of CUDA graphs that use as many
copies of a weight in turn as the GPU's cache does not hold together, A B A B, medians. GB/s are bytes of the stored
weight; the ceilings, of a copy and of a large product in 16 bits, are measured in the same run. Without a GPU,
``--library FILE`` checks the kernels on the emulator that ``tests/cpp`` builds (libeqnet_cuda_emulated).
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from cuda_checks import failures, moved, random_weight
from cuda_peers import PEERS, usable
from torch import Tensor

from eqnet.ops import Tiles, cuda
from eqnet.ops.cuda import CudaLibrary, cuda_library

LAYERS = {"attention 4096": (4096, 4096), "up 14336": (14336, 4096), "down 4096": (4096, 14336)}
"""Rows and columns of the layers of an 8-billion-parameter Llama."""

TOKENS = (1, 4, 8, 16, 64, 256, 2048)
FORMATS = ((2, 128), (3, 128), (4, 128), (4, 32), (5, 128), (6, 128), (7, 128), (8, 128), (4, 0), (8, 0))
"""Bits, and columns that share a scale; 0: a whole row."""

Call = Callable[[], object]

ROUNDS = 15
CACHES = 3
"""Times the GPU's cache that the copies of a weight take together."""

NO_GPU = 2
"""Exit status where there is no GPU."""


@dataclass(frozen=True)
class Row:
    """One time.

    Attributes:
        layer: whose shape it is.
        tokens: activations.
        product: which kernel.
        microseconds: of a product.
        gigabytes: of stored weight, a second.
        teraflops: a product and its addition being two operations.
        of_ceiling: the share of the larger of the two ceilings' times.
        over_dense: how many times faster than torch's product in 16 bits.
    """

    layer: str
    tokens: int
    product: str
    microseconds: float
    gigabytes: float
    teraflops: float
    of_ceiling: float
    over_dense: float


def check(library: CudaLibrary, device: torch.device, every: int) -> int:
    """Prints what fails, and how many cases there were; the number of failures."""
    cases, found = 0, 0
    for cases, failure in enumerate(failures(library, device, every), 1):
        if failure is not None:
            found += 1
            print(f"FAILED {failure.what}: {failure.error:.3g} of what is allowed")
        if cases % 500 == 0:
            print(f"{cases} cases, {found} failed", file=sys.stderr)
    print(f"{cases} cases: {found} failed")
    return found


def check_graphs(library: CudaLibrary, device: torch.device) -> int:
    """Whether a captured product gives what a call does, and calls on two streams what calls in turn do."""
    tiles = moved(Tiles.of(random_weight(4, 128, False, (512, 8192), torch.float16)), device)
    found = 0
    for tokens in (1, 64):
        x = torch.randn(tokens, 8192, device=device, dtype=torch.float16)
        expected = cuda.linear(library, x, tiles, None, x.new_empty(tokens, 512))
        graph, out = torch.cuda.CUDAGraph(), x.new_zeros(tokens, 512)
        with torch.cuda.graph(graph):
            cuda.linear(library, x, tiles, None, out)
        for _ in range(3):
            out.zero_()
            graph.replay()
            torch.cuda.synchronize()
            found += not torch.equal(out, expected)
        streams = [torch.cuda.Stream() for _ in range(2)]
        torch.cuda.synchronize()
        outs = [x.new_zeros(tokens, 512) for _ in range(20)]
        for number, each in enumerate(outs):
            with torch.cuda.stream(streams[number % 2]):
                cuda.linear(library, x, tiles, None, each)
        torch.cuda.synchronize()
        found += sum(not torch.equal(each, expected) for each in outs)
    print(f"graphs and streams: {found} failed")
    return found


def captured(calls: Sequence[Call]) -> torch.cuda.CUDAGraph:
    """All calls, one after another, as one graph."""
    for call in calls[:2]:
        call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for call in calls:
            call()
    return graph


def in_turn(graphs: dict[str, tuple[torch.cuda.CUDAGraph, int]]) -> dict[str, float]:
    """Median seconds of a call of each graph, which holds so many."""
    taken: dict[str, list[float]] = {name: [] for name in graphs}
    for _ in range(ROUNDS):
        for name, (graph, calls) in graphs.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            graph.replay()
            end.record()
            end.synchronize()
            taken[name].append(begin.elapsed_time(end) / 1e3 / calls)
    return {name: statistics.median(times) for name, times in taken.items()}


def ceilings(device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Bytes a second of a copy, read and written, and operations a second of a large product."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    a, b = (torch.randn(8192, 8192, device=device).to(dtype) for _ in range(2))
    seconds = in_turn({
        "copy": (captured([lambda: target.copy_(source)]), 1),
        "product": (captured([lambda: a @ b]), 1),
    })  # fmt: skip
    return 2 * source.nbytes / seconds["copy"], 2 * 8192**3 / seconds["product"]


@dataclass(frozen=True)
class Contender:
    """One product on as many copies of its weight as do not fit the cache.

    Attributes:
        name: whose.
        nbytes: of the stored weight.
        calls: one for each copy.
    """

    name: str
    nbytes: int
    calls: list[Call]


def ours(library: CudaLibrary, x: Tensor, shape: tuple[int, int], bits: Sequence[int]) -> Iterator[Contender]:
    """Products of eqnet with weights of these widths."""
    out = x.new_empty(len(x), shape[0])
    for width, group in FORMATS:
        if width in bits:
            weight = random_weight(width, group, True, shape, torch.float16)
            tiles = moved(Tiles.of(weight), x.device)
            copies = [moved(tiles, x.device, copy=True) for _ in range(copies_of(tiles.nbytes, x.device))]
            calls: list[Call] = [partial(cuda.linear, library, x, each, None, out) for each in copies]
            yield Contender(f"eqnet {weight.format}", tiles.nbytes, calls)


def peers(x: Tensor, shape: tuple[int, int]) -> Iterator[Contender]:
    """Those of other projects, as far as they are there."""
    dense = torch.randn(shape, device=x.device).to(x.dtype)
    for peer, problem in usable(dense, x):
        if problem is not None:
            print(f"{peer.name}: left out ({problem})", file=sys.stderr)
            continue
        nbytes = peer.nbytes(*shape)
        products = [peer.make(dense) for _ in range(copies_of(nbytes, x.device))]
        yield Contender(peer.name, nbytes, [partial(product, x) for product in products])


def copies_of(nbytes: int, device: torch.device) -> int:
    """How many copies the cache does not hold."""
    return max(2, -(-CACHES * torch.cuda.get_device_properties(device).L2_cache_size // nbytes))


def timed(library: CudaLibrary, device: torch.device, dtype: torch.dtype, bits: Sequence[int]) -> Iterator[Row]:
    """Every format and peer at every layer and number of tokens."""
    memory, arithmetic = ceilings(device, dtype)
    print(f"ceilings: {memory / 1e9:.0f} GB/s, {arithmetic / 1e12:.1f} TFLOP/s", file=sys.stderr)
    for (layer, shape), tokens in itertools.product(LAYERS.items(), TOKENS):
        x = torch.randn(tokens, shape[1], device=device).to(dtype)
        contenders = [*ours(library, x, shape, bits), *peers(x, shape)]
        seconds = in_turn({each.name: (captured(each.calls), len(each.calls)) for each in contenders})
        operations = 2.0 * tokens * shape[0] * shape[1]
        for each in sorted(contenders, key=lambda contender: seconds[contender.name]):
            time = seconds[each.name]
            yield Row(
                layer,
                tokens,
                each.name,
                time * 1e6,
                each.nbytes / time / 1e9,
                operations / time / 1e12,
                max(each.nbytes / memory, operations / arithmetic) / time,
                seconds[PEERS[0].name] / time,
            )


def show(rows: Sequence[Row]) -> None:
    """Prints a table for people."""
    print("| layer | tokens | product | µs | GB/s | TFLOP/s | of the ceiling | over 16 bits |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row.layer} | {row.tokens} | {row.product} | {row.microseconds:.1f} | {row.gigabytes:.0f} | "
            f"{row.teraflops:.1f} | {row.of_ceiling:.2f} | {row.over_dense:.2f} |"
        )


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="check alone")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="check one case in N")
    parser.add_argument("--type", choices=["float16", "bfloat16"], default="float16", help="of activations, for times")
    parser.add_argument(
        "--bits", type=int, nargs="+", choices=range(2, 9), default=list(range(2, 9)), help="widths to time"
    )
    parser.add_argument("--library", type=Path, help="check this one, on the CPU")
    parser.add_argument("--json", action="store_true", help="print the times as JSON")
    arguments = parser.parse_args()
    if arguments.every < 1:
        parser.error(f"--every {arguments.every}: expected 1 or more")
    if arguments.library is not None:
        return int(check(CudaLibrary(arguments.library), torch.device("cpu"), arguments.every) > 0)
    if not torch.cuda.is_available():
        print("No GPU was found: the kernels are compiled and emulated, and were not run on one.", file=sys.stderr)
        return NO_GPU
    library, device = cuda_library(), torch.device("cuda", torch.cuda.current_device())
    if library is None:
        print("eqnet was built without its kernels for GPUs; install nvcc, then eqnet again.", file=sys.stderr)
        return 1
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}", file=sys.stderr)
    found = check(library, device, arguments.every) + check_graphs(library, device)
    if arguments.check or found:
        return int(found > 0)
    with torch.inference_mode():
        rows = list(timed(library, device, getattr(torch, arguments.type), arguments.bits))
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows]))
    else:
        show(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
