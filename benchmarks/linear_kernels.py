"""eqnet's packed linear layer beside those of ONNX Runtime, PyTorch and ggml, and beside what the machine can do.

All are timed in one run, in shuffled rounds; a time is the median of the blocks that no other process disturbed, or
the best block where they are few. A weight is hot when one is used over and over, and cold when so many copies are used
in turn that each comes from memory, as in a language model. GB/s are bytes of the stored weight. Times are those of a
caller: with the call from Python, which for ONNX Runtime and ggml is one for all copies.

ggml is left out unless ``--ggml`` names a folder with its shared libraries. They come with the sources of
llama-cpp-python (``pip download --no-deps --no-binary :all: llama-cpp-python``, then in its ``vendor/llama.cpp/ggml``,
with an empty ``ggml.pc.in`` if there is none)::

    cmake -S . -B BUILD -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DGGML_OPENMP=ON -DGGML_LLAMAFILE=ON
    cmake --build BUILD --target ggml

and then ``--ggml BUILD/src --ggml-include include``. With ``EQNET_CPU=avx2`` eqnet's kernels, and the products in
registers that they are compared with, do without AVX-512; the peers choose for themselves.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import re
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from common import show
from linear_bars import FLOAT_ERROR, Cell, Point, points, row, summary
from linear_peers import Copies, Layer, Shape, peers, rotating
from roofline import int8_products, reading
from rounds import Timing, in_shuffled_rounds

from eqnet import Format, Granularity
from eqnet.ops import Panels, packed_linear
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor

FORMATS = [(bits, 32) for bits in range(2, 9)] + [(bits, 128) for bits in (2, 3, 4)]
"""Bits and group sizes that the bars speak of."""

ERROR_ROWS = 4
"""Of activations, where the error is measured."""


DOUBTFUL = 1.15
"""Times the read bandwidth: no weight comes from memory so fast, given how the bandwidth varies within a run."""


def packed_weight(shape: Shape, bits: int, group: int) -> PackedTensor:
    """A symmetric weight with float16 scales."""
    fmt = Format(bits, True, Granularity.GROUP, group)
    scale = shape.scales(group).half()
    return PackedTensor(fmt, shape.rows, shape.cols, pack(shape.codes(bits), bits), scale, None)


def ours(shape: Shape, bits: int, group: int) -> list[Layer]:
    """The layers of eqnet in one format; they share the copies of their weight."""
    weight = packed_weight(shape, bits, group)
    copies = Copies(partial(Panels.of, weight))
    layers = []
    for compute in ("int8", "float"):
        bind = rotating(copies, partial(packed_linear, compute=compute), shape.inputs)
        name = f"eqnet {bits} bits g{group} {compute}"
        layers.append(Layer(name, "eqnet", bits, group, compute, weight.nbytes, bind))
    return layers


def errors(shape: Shape) -> Iterator[Point]:
    """Relative errors against float64 on the dequantized weight; only exact activations have a bar."""
    x = shape.inputs(ERROR_ROWS)
    for bits, group in FORMATS:
        weight = packed_weight(shape, bits, group)
        expected = x.double() @ weight.dequantize().double().T
        difference = packed_linear(x, Panels.of(weight)).double() - expected
        figure = float(difference.norm() / expected.norm())
        name = f"eqnet {bits} bits g{group} float"
        yield Point("error", f"M={ERROR_ROWS}", name, "float64", figure, FLOAT_ERROR, at_least=False)


def measured(layers: list[Layer], shape: Shape, m: int, cold: bool, arguments: argparse.Namespace) -> Cell:
    """Times everything at one number of threads and activation rows."""
    cold_bytes = int(arguments.cold_mib * 2**20)
    bound = [layer.bind(m, max(2, math.ceil(cold_bytes / layer.nbytes)) if cold else 1) for layer in layers]
    read, read_bytes = reading(cold_bytes if cold else shape.rows * shape.cols // 2, shape.threads)
    products, operations = int8_products(shape.threads)
    timings = in_shuffled_rounds([*(call for call, _ in bound), read, products], arguments.rounds, arguments.block)
    each = {
        layer: Timing(t.median / count, t.best / count, t.clean, t.rounds)
        for layer, (_, count), t in zip(layers, bound, timings[:-2], strict=True)
    }
    return Cell(
        shape,
        m,
        cold,
        {layer: timing for layer, timing in each.items() if layer.owner == "eqnet"},
        {layer: timing for layer, timing in each.items() if layer.owner != "eqnet"},
        read_bytes / timings[-2].median,
        operations / timings[-1].median,
        all(timing.sure for timing in timings[-2:]),
    )


def lines(cell: Cell) -> list[dict[str, object]]:
    """The times of one cell, the fastest first."""
    where = {"threads": cell.shape.threads, "M": cell.m, "weight": "cold" if cell.cold else "hot"}
    operations = 2 * cell.m * cell.shape.rows * cell.shape.cols
    result: list[dict[str, object]] = [
        {
            **where,
            "layer": layer.name,
            "bpw": layer.bpw(cell.shape),
            "µs": timing.median * 1e6,
            "best": timing.best * 1e6,
            "GB/s": layer.nbytes / timing.median / 1e9,
            "Gop/s": operations / timing.median / 1e9,
            "undisturbed": f"{timing.clean}/{timing.rounds}",
        }
        for layer, timing in sorted({**cell.ours, **cell.theirs}.items(), key=lambda item: item[1].median)
    ]
    machine = dict.fromkeys(result[0], "") | where | {"layer": "reading and int8 products alone"}
    return [
        *result,
        machine | {"GB/s": cell.bandwidth / 1e9, "Gop/s": cell.peak / 1e9, "undisturbed": "yes" if cell.sure else "NO"},
    ]


def doubtful(cell: Cell) -> Iterator[str]:
    """What cannot be: cold weights that are read faster than memory is."""
    for layer, timing in {**cell.ours, **cell.theirs}.items():
        speed = layer.nbytes / timing.median / cell.bandwidth
        if cell.cold and cell.sure and timing.sure and speed > DOUBTFUL:
            yield f"{layer.name}: {speed:.2f} of the read bandwidth; its copies are shared, or a cache holds them"


def run(arguments: argparse.Namespace) -> Iterator[Cell]:
    """The cells, one number of threads after another: the peers fix theirs when they are made."""
    ggml = (arguments.ggml.resolve(), arguments.ggml_include.resolve()) if arguments.ggml else None
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        rows, cols = arguments.shape
        shape = Shape(rows, cols, threads)
        copies = math.ceil(arguments.cold_mib * 2**20 / (shape.rows * shape.cols * 2 / 8))
        layers = [layer for bits, group in FORMATS for layer in ours(shape, bits, group)]
        layers += peers(shape, copies, ggml)
        layers = [layer for layer in layers if re.search(arguments.only, layer.name)]
        for m in arguments.rows:
            for cold in (True, False):
                if not cold or m <= arguments.cold_rows:
                    print(f"{threads} threads, {m} rows, {'cold' if cold else 'hot'}", file=sys.stderr)
                    cell = measured(layers, shape, m, cold, arguments)
                    for doubt in doubtful(cell):
                        print(doubt, file=sys.stderr)
                    yield cell
        del layers
        gc.collect()


def numbers(text: str) -> list[int]:
    """Integers between commas."""
    return [int(part) for part in text.split(",")]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--shape", type=numbers, default=[4096, 4096], help="rows and columns of the weight: N,K")
    options.add_argument("--threads", type=numbers, default=[1, 2])
    options.add_argument("--rows", type=numbers, default=[1, 4, 16, 64, 256], help="of activations: M")
    options.add_argument("--cold-rows", type=int, default=16, help="the most rows for which weights are cold, too")
    options.add_argument("--cold-mib", type=float, default=112, help="copies of a cold weight, in all")
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--block", type=float, default=0.012, help="seconds of one block at least")
    options.add_argument("--only", default="", help="layers whose name this pattern is found in")
    options.add_argument("--ggml", type=Path, help="folder of libggml.so")
    options.add_argument("--ggml-include", type=Path, help="folder of ggml.h")
    options.add_argument("--json", action="store_true", help="print JSON")
    arguments = options.parse_args()
    if (arguments.ggml is None) != (arguments.ggml_include is None):
        options.error("--ggml and --ggml-include go together")
    with torch.inference_mode():
        cells = list(run(arguments))
    times = [line for cell in cells for line in lines(cell)]
    reached = [point for cell in cells for point in points(cell)]
    if cells[-1].ours:
        reached += errors(cells[-1].shape)
    bars = [row(point) for point in reached]
    if arguments.json:
        json.dump({"times": times, "bars": bars, "summary": summary(reached)}, sys.stdout, indent=2)
        print()
        return
    for table in filter(None, (times, bars, summary(reached))):
        show(table, False)
        print()


if __name__ == "__main__":
    main()
