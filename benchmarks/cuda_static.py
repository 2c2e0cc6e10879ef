"""What is known of the kernels for GPUs without a GPU: their machine code, and what they move, beside the roofline.

One command, which compiles the library for all architectures and the emulator's counters first::

    python benchmarks/cuda_static.py

It fails if a kernel spills registers, has a stack, or lacks an instruction that it is written for. Times are what
memory and tensor cores need for the bytes and operations that the emulator counts (a cache of 4 MB between the
multiprocessors and memory; the GPUs have 5.5 MB and more), by the peaks of NVIDIA's own papers: bounds, which no kernel
reaches, and the larger one of the two. The whole peak of an H100 is for wgmma alone, which these kernels do not use.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cuda_binary import Kernel, kernels, readable_name

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "cuda"


@dataclass(frozen=True)
class Processor:
    """A multiprocessor, by the table of compute capabilities in NVIDIA's CUDA C++ Programming Guide.

    Attributes:
        warps: that it holds.
        blocks: that it holds.
        shared: bytes.
        block_shared: bytes that one block can have.
        reserved: bytes of shared memory that CUDA keeps of each block.
    """

    warps: int
    blocks: int
    shared: int
    block_shared: int
    reserved: int = 1024


PROCESSORS = {
    75: Processor(32, 16, 64 << 10, 64 << 10, reserved=0),
    80: Processor(64, 32, 164 << 10, 163 << 10),
    86: Processor(48, 16, 100 << 10, 99 << 10),
    89: Processor(48, 24, 100 << 10, 99 << 10),
    90: Processor(64, 32, 228 << 10, 227 << 10),
    100: Processor(64, 32, 228 << 10, 227 << 10),
    120: Processor(48, 24, 100 << 10, 99 << 10),
}
REGISTERS = 64 << 10
"""Of a multiprocessor; a warp is given multiples of 256."""


@dataclass(frozen=True)
class Gpu:
    """A GPU's peaks.

    Attributes:
        architecture: 75, 80, ...
        processors: multiprocessors.
        gigabytes: of memory, a second.
        teraflops: of tensor cores, half with sums in float32, dense.
        source: of these.
    """

    architecture: int
    processors: int
    gigabytes: float
    teraflops: float
    source: str


GPUS = {
    "RTX 2080 Ti": Gpu(75, 68, 616, 53.8, "NVIDIA Turing GPU Architecture, WP-09183-001, table 4"),
    "RTX 3090": Gpu(86, 82, 936, 71, "NVIDIA Ampere GA102 GPU Architecture, table 2"),
    "A100 80 GB": Gpu(80, 108, 2039, 312, "NVIDIA A100 Tensor Core GPU datasheet, SXM"),
    "H100": Gpu(90, 132, 3350, 989, "NVIDIA H100 Tensor Core GPU datasheet, SXM, without sparsity"),
}

WIDE_LOAD, WIDE_STORE = r"LDG\.E.*\.128", r"STG\.E.*\.128"
MATRICES = {"HMMA": r"HMMA", "LDSM": r"LDSM"}
COPIES = {"LDGSTS": r"LDGSTS"}
NEEDED = {
    "dequantize_tiles": {"LDG.E.128": WIDE_LOAD, "STG.E.128": WIDE_STORE, "LDS.128": r"LDS.*\.128"},
    "dequantize_rows<__half, 8>": {"STG.E.128": WIDE_STORE},
    "dequantize_rows<__nv_bfloat16, 8>": {"STG.E.128": WIDE_STORE},
    "dequantize_rows<float, 4>": {"STG.E.128": WIDE_STORE},
    "gather_rows<4>": {"STG.E.128": WIDE_STORE},
    "spread_columns<8>": {"LDG.E.128": WIDE_LOAD, "STG.E.128": WIDE_STORE},
    "gemv_kernel": {"LDG.E.128": WIDE_LOAD, **MATRICES},
    "gemm_kernel": MATRICES,
}
"""Instructions that a kernel, or all of a family, is written for."""

THREADS = {"dequantize_tiles": 128}
"""Of a block; 256 if not said here, which is the most of all others."""

WITH_COPIES = {"gemv_kernel", "gemm_kernel"}
FIRST_WITH_COPIES = 80
"""Architecture from which there are asynchronous copies, and products of bfloat16."""

CASES = [
    *((4096, 4096, 4, 128, tokens) for tokens in (0, 1, 8, 64)),
    *((1024, 4096, bits, 128, tokens) for bits in (2, 3, 8) for tokens in (1, 64)),
    (4096, 4096, 4, 0, 1),
]
"""Rows, columns, bits, group size (0: one scale a channel) and tokens (0: the weight is dequantized)."""


@dataclass(frozen=True)
class Row:
    """A layer on a GPU.

    Attributes:
        gpu: its name.
        rows: output channels.
        cols: inputs.
        bits: of a weight.
        group_size: columns that share a scale; 0: all.
        tokens: activations; 0: the weight is dequantized.
        kernel: the last one that is launched.
        blocks: of that.
        warps: of it that a multiprocessor holds.
        bytes: between memory and its cache.
        over_minimum: these over the bytes of the weight, activations and results.
        microseconds: that memory or tensor cores need.
        roofline: microseconds that they would need for the minimum.
    """

    gpu: str
    rows: int
    cols: int
    bits: int
    group_size: int
    tokens: int
    kernel: str
    blocks: int
    warps: int
    bytes: int
    over_minimum: float
    microseconds: float
    roofline: float


def occupancy(kernel: Kernel, threads: int, dynamic_bytes: int) -> int:
    """Warps of a kernel that a multiprocessor holds."""
    processor, warps = PROCESSORS[kernel.architecture], threads // 32
    limits = [processor.blocks, processor.warps // warps]
    limits.append(REGISTERS // (-(-kernel.registers * 32 // 256) * 256) // warps)
    if shared := kernel.shared + dynamic_bytes + processor.reserved:
        limits.append(processor.shared // shared)
    return min(limits) * warps


def missing(kernel: Kernel) -> list[str]:
    """What is wrong with the machine code of a kernel, in words."""
    wrong = [f"{kernel.stack} bytes of stack"] * (kernel.stack > 0)
    wrong += [f"{kernel.spills} spilling instructions"] * (kernel.spills > 0)
    needed = {**NEEDED.get(kernel.family, {}), **NEEDED.get(kernel.name, {})}
    if kernel.family in WITH_COPIES:
        if kernel.architecture >= FIRST_WITH_COPIES:
            needed |= COPIES
        elif "bfloat16" in kernel.name:
            return wrong  # it traps
    return wrong + [f"no {name}" for name, pattern in needed.items() if not kernel.has(pattern)]


def build(source: str, target: str) -> float:
    """Builds a target on two cores; seconds."""
    folder, begin = BUILD / target, time.monotonic()
    subprocess.run(["cmake", "-S", str(ROOT / source), "-B", str(folder)], check=True, stdout=sys.stderr)
    subprocess.run(["cmake", "--build", str(folder), "--target", target, "-j", "2"], check=True, stdout=sys.stderr)
    return time.monotonic() - begin


def counted(program: Path, compiled: Sequence[Kernel]) -> Iterator[Row]:
    """Each case on each GPU."""
    by_name = {(kernel.name, kernel.architecture): kernel for kernel in compiled}
    for rows, cols, bits, group_size, tokens in CASES:
        for name, gpu in GPUS.items():
            processor = PROCESSORS[gpu.architecture]
            numbers = [gpu.processors, gpu.architecture, processor.block_shared, processor.shared]
            command = [str(program), *map(str, [*numbers, rows, cols, bits, group_size, tokens])]
            figures = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            moved = sum(launch["read_bytes"] + launch["written_bytes"] for launch in figures["launches"])
            flops = sum(launch["matrix_flops"] for launch in figures["launches"])
            last = figures["launches"][-1]
            kernel = by_name.get((readable_name(last["kernel"]), gpu.architecture))
            yield Row(
                gpu=name,
                rows=rows,
                cols=cols,
                bits=bits,
                group_size=group_size,
                tokens=tokens,
                kernel=readable_name(last["kernel"]),
                blocks=last["blocks"],
                warps=0 if kernel is None else occupancy(kernel, last["threads"], last["dynamic_bytes"]),
                bytes=moved,
                over_minimum=moved / figures["minimum_bytes"],
                microseconds=max(moved / gpu.gigabytes / 1e3, flops / gpu.teraflops / 1e6),
                roofline=max(figures["minimum_bytes"] / gpu.gigabytes / 1e3, figures["flops"] / gpu.teraflops / 1e6),
            )


def threads_of(kernel: Kernel) -> int:
    """Of a block, at most."""
    return THREADS.get(kernel.family, 256)


def show_kernels(compiled: Sequence[Kernel]) -> None:
    """A table of registers and occupancy: a line for each kernel, a column for each architecture."""
    architectures = sorted({kernel.architecture for kernel in compiled})
    print(
        "Registers of a thread, warps that a multiprocessor holds by them, and bytes of shared memory of every launch\n"
    )
    print("| kernel | " + " | ".join(f"sm_{number}" for number in architectures) + " | shared |")
    print("| --- |" + " --- |" * (len(architectures) + 1))
    for name in dict.fromkeys(kernel.name for kernel in compiled):
        of_name = {kernel.architecture: kernel for kernel in compiled if kernel.name == name}
        cells = [
            f"{kernel.registers} ({occupancy(kernel, threads_of(kernel), 0)})" if kernel else ""
            for kernel in map(of_name.get, architectures)
        ]
        print(f"| {name} | {' | '.join(cells)} | {max(kernel.shared for kernel in of_name.values())} |")


def show(rows: Sequence[Row]) -> None:
    """A table of layers."""
    print("\nLayers in half, one symmetric scale a group; µs that memory or tensor cores need at their peaks\n")
    print("| layer | bits:group | tokens | GPU | kernel | blocks | warps held | MB | over minimum | µs | roofline µs |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row.rows}x{row.cols} | {row.bits}:{row.group_size or 'channel'} | {row.tokens or 'dequantize'} | "
            f"{row.gpu} | {row.kernel} | {row.blocks} | {row.warps} | {row.bytes / 1e6:.2f} | {row.over_minimum:.3f} | "
            f"{row.microseconds:.1f} | {row.roofline:.1f} |"
        )


def main() -> int:
    """Runs it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", type=Path, help="look at this libeqnet_cuda.so; else it is built")
    parser.add_argument("--code-only", action="store_true", help="leave out what the emulator counts")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()

    library, seconds = arguments.library, None
    if library is None:
        seconds = build("cpp/cuda", "eqnet_cuda")
        library = BUILD / "eqnet_cuda" / "libeqnet_cuda.so"
    compiled = kernels(library)
    names = {kernel.name for kernel in compiled} | {kernel.family for kernel in compiled}
    if unknown := sorted(NEEDED.keys() - names):
        raise SystemExit(f"{library} has no kernel {', '.join(unknown)}")
    wrong = [(kernel, words) for kernel in compiled if (words := missing(kernel))]
    rows: list[Row] = []
    if not arguments.code_only:
        build("tests/cpp", "cuda_figures")
        rows = list(counted(BUILD / "cuda_figures" / "cuda" / "cuda_figures", compiled))

    if arguments.json:
        document = {
            "library_bytes": library.stat().st_size,
            "build_seconds": seconds,
            "kernels": [
                {
                    **asdict(kernel),
                    "warps": occupancy(kernel, threads_of(kernel), 0),
                    "instructions": kernel.instructions.total(),
                }
                for kernel in compiled
            ],
            "wrong": [{"kernel": k.name, "architecture": k.architecture, "words": words} for k, words in wrong],
            "layers": [asdict(row) for row in rows],
            "sources": {name: gpu.source for name, gpu in GPUS.items()},
        }
        print(json.dumps(document))
    else:
        show_kernels(compiled)
        if rows:
            show(rows)
            print("\nPeaks: " + "; ".join(f"{name}: {gpu.source}" for name, gpu in GPUS.items()))
        built = "" if seconds is None else f", built in {seconds:.0f} s"
        print(f"\n{len(compiled)} kernels, {library.stat().st_size / 1e6:.1f} MB{built}")
        for kernel, words in wrong:
            print(f"FAILED sm_{kernel.architecture} {kernel.name}: {', '.join(words)}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
