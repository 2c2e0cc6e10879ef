"""What an export to TVM is worth, with hand-written TIR and with eqnet's own kernels, beside ONNX Runtime.

All run the same network, W8A8 or W4A8, weights per channel. ONNX Runtime runs its own static quantization of it (QDQ,
per channel) and eqnet's export to ONNX. TVM reads how many threads it may use when it starts: each number of threads is
a process of its own, in which all calls are timed in turn.

    python benchmarks/tvm_export.py --networks resnet,mobilenet --threads 1,2
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
import tvm  # noqa: F401 (with its compiler, before opening a library loads the runtime alone)
from common import parser, show
from onnx_export import BLOCK, ROUNDS, exported, packed
from rounds import in_shuffled_rounds
from trained import NAMES, trained
from whole_network import onnx_models, session

import eqnet.runtime
from eqnet.export.tvm import TvmOptions, write_tvm

KERNELS = {"tir": 2.0, "eqnet": 1.3}
"""What each kind of kernels may take, over ONNX Runtime."""


def measure(name: str, arguments: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """One row for each format, kind of kernels and batch, on the threads that the environment says."""
    network = trained(name, arguments.cache)
    threads = arguments.threads[0]
    torch.set_num_threads(threads)
    _, peer = onnx_models(network.model, network.calibration[:64], folder)
    rows: list[dict[str, object]] = []
    for fmt in arguments.formats:
        path = folder / f"{fmt}.onnx"
        exported(network, fmt, path, exact=False)
        libraries = {kernels: folder / f"{fmt}-{kernels}.so" for kernels in arguments.kernels}
        for kernels, library in libraries.items():
            write_tvm(packed(network, fmt), library, network.calibration[:1], options=TvmOptions(kernels=kernels))
        runners = [eqnet.runtime.open(library) for library in libraries.values()]
        for batch in arguments.batches:
            x = network.images[:1].repeat(batch, 1, 1, 1)
            calls = [partial(run, x) for run in runners]
            calls += [partial(session(file, threads), x.numpy()) for file in (peer, path)]
            *times, static, ours = in_shuffled_rounds(calls, ROUNDS, BLOCK)
            for (kernels, library), timing in zip(libraries.items(), times, strict=True):
                over = timing.median / static.median
                rows.append(
                    {
                        "network": name,
                        "format": fmt,
                        "kernels": kernels,
                        "threads": threads,
                        "batch": batch,
                        "ms": 1e3 * timing.median,
                        "over quantize_static": over,
                        "over eqnet's ONNX": timing.median / ours.median,
                        "kB": library.stat().st_size // 1000,
                        "met": "yes" if over <= KERNELS[kernels] else "NO",
                        "sure": "yes" if timing.sure and static.sure else "no",
                    }
                )
    return rows


def _in_a_process(threads: int, arguments: list[str]) -> list[dict[str, object]]:
    environment = {**os.environ, "TVM_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, __file__, *arguments, "--threads", str(threads), "--inner"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    rows: list[dict[str, object]] = json.loads(done.stdout.splitlines()[-1])
    return rows


def main() -> None:
    """Measures what is asked for and prints it."""
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    listed = partial(str.split, sep=",")
    options.add_argument("--networks", default=",".join(NAMES), help=f"of {', '.join(NAMES)}")
    options.add_argument("--formats", type=listed, default=["W8A8", "W4A8"])
    options.add_argument("--kernels", type=listed, default=list(KERNELS))
    for option, default in (("--batches", [1]), ("--threads", [1, 2])):
        options.add_argument(option, type=lambda text: [int(part) for part in text.split(",")], default=default)
    options.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    rows: list[dict[str, object]] = []
    if not arguments.inner:
        for threads in arguments.threads:
            rows += _in_a_process(threads, sys.argv[1:])
        show(rows, arguments.json)
        return
    for name in arguments.networks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(name, arguments, Path(folder))
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
