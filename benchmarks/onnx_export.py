"""What an export to ONNX is worth in ONNX Runtime, beside ONNX Runtime's own static quantization of the same network.

Both are quantized after training: W8A8 and W4A8 with weights per channel, symmetric, and uint8 activations; ONNX
Runtime's model is its QDQ form, per channel, calibrated on the same images. Integer kernels are counted in the graphs
that ONNX Runtime's optimizer leaves. Export times and memory are those of a process of its own.

    python benchmarks/onnx_export.py --networks resnet,mobilenet --threads 1,2 --batches 1,16
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from common import parser, show
from rounds import in_shuffled_rounds
from torch import Tensor
from trained import NAMES, Trained, trained
from whole_network import onnx_models, session

import eqnet
from eqnet import Choices
from eqnet.export.onnx import OnnxOptions, write_onnx
from eqnet.packed.model import PackedModel

FLOATING = ("Conv", "MatMul", "Gemm", "FusedConv", "FusedMatMul", "FusedGemm")
"""Operators whose arithmetic is in floating point."""

INTEGER = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "ConvInteger", "MatMulInteger")

PEER = "quantize_static"
ROUNDS, BLOCK = 15, 0.02


def packed(network: Trained, name: str) -> PackedModel:
    """The network in a format such as W4A8."""
    weight, activation = name.removeprefix("W").split("A")
    choices = Choices.parse(f"w={weight}:channel:sym a={activation} edge=none")
    supernet = eqnet.elasticize(network.model, choices, network.calibration[:1])
    supernet.calibrate([*network.calibration.split(64)])
    subnet = supernet.space.subnet([0] * len(supernet.space.sets))
    return eqnet.pack(supernet, subnet)


def exported(network: Trained, name: str, path: Path, exact: bool) -> None:
    """Writes the network in a format."""
    calibration = [*network.calibration.split(64)]
    model = packed(network, name)
    write_onnx(model, path, network.calibration[:1], calibration=calibration, options=OnnxOptions(exact=exact))


def kernels(path: Path) -> Counter[str]:
    """How many products of the optimized graph run in each operator."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    return Counter(node.op_type for node in graph.node if node.op_type in (*FLOATING, *INTEGER))


def accuracy(path: Path, images: Tensor, labels: Tensor) -> float:
    """Top-1 in ONNX Runtime."""
    run = session(path, 2)
    answers = [run(part.numpy())[0].argmax(1) for part in images.split(250)]
    return float((np.concatenate(answers) == labels.numpy()).mean())


def measure(name: str, arguments: argparse.Namespace, folder: Path) -> list[dict[str, object]]:
    """One row for each model, number of threads and batch."""
    network = trained(name, arguments.cache)
    fp32, peer = onnx_models(network.model, network.calibration, folder)
    models = {PEER: peer}
    for fmt in arguments.formats:
        models[fmt] = folder / f"{fmt}.onnx"
        exported(network, fmt, models[fmt], arguments.exact)
    facts = {model: _facts(path, network) for model, path in models.items()}
    rows: list[dict[str, object]] = []
    for threads in arguments.threads:
        runs = [session(path, threads) for path in [*models.values(), fp32]]
        for batch in arguments.batches:
            x = network.images[:1].repeat(batch, 1, 1, 1).numpy()
            *times, floating = in_shuffled_rounds([partial(run, x) for run in runs], ROUNDS, BLOCK)
            for model, timing in zip(models, times, strict=True):
                rows.append(
                    {
                        "network": name,
                        "model": model,
                        "threads": threads,
                        "batch": batch,
                        "ms": 1e3 * timing.median,
                        "over quantize_static": timing.median / times[0].median,
                        "over fp32": timing.median / floating.median,
                        "sure": "yes" if timing.sure and times[0].sure else "no",
                        **facts[model],
                    }
                )
    return rows


def _facts(path: Path, network: Trained) -> dict[str, object]:
    counted = kernels(path)
    return {
        "top-1 %": round(100 * accuracy(path, network.images, network.labels), 2),
        "kB": path.stat().st_size // 1000,
        "integer kernels": sum(counted[op] for op in INTEGER),
        "float kernels": sum(counted[op] for op in FLOATING),
    }


def export_cost(name: str, cache: Path) -> dict[str, object]:
    """Seconds and memory of one W8A8 export, in a process of its own."""
    command = [sys.executable, __file__, "--cost-of", name, "--cache", str(cache)]
    cost: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout.splitlines()[-1])
    return cost


def _cost(name: str, cache: Path) -> dict[str, object]:
    network = trained(name, cache)
    model = packed(network, "W8A8")
    weights = sum(4 * layer.rows * layer.cols for layer in model.layers.values())
    calibration = [*network.calibration[:64].split(8)]
    with tempfile.TemporaryDirectory() as folder:
        # The second export shows what the export itself takes beyond the libraries that the first one loads.
        seconds = []
        for turn in range(2):
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew from what is in memory now
            before, start = _peak_bytes(), time.perf_counter()
            write_onnx(model, Path(folder) / f"{turn}.onnx", network.calibration[:1], calibration=calibration)
            seconds.append(time.perf_counter() - start)
            grown = _peak_bytes() - before
    return {
        "network": name,
        "first s": seconds[0],
        "again s": seconds[1],
        "MB beyond before, again": grown / 1e6,
        "over fp32 weights": grown / weights,
    }


def _peak_bytes() -> int:
    line = next(text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def main() -> None:
    """Measures what is asked for and prints it."""
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    options.add_argument("--networks", default=",".join(NAMES), help=f"of {', '.join(NAMES)}")
    options.add_argument("--formats", type=lambda text: text.split(","), default=["W8A8", "W4A8"])
    for option, default in (("--batches", [1, 16]), ("--threads", [1, 2])):
        options.add_argument(option, type=lambda text: [int(part) for part in text.split(",")], default=default)
    options.add_argument("--exact", action="store_true", help="keep sums of convolutions in floating point")
    options.add_argument("--cost-of", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(2)
    if arguments.cost_of is not None:
        print(json.dumps(_cost(arguments.cost_of, arguments.cache)))
        return
    rows: list[dict[str, object]] = []
    for name in arguments.networks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(name, arguments, Path(folder))
    show(rows, arguments.json)
    show([export_cost(name, arguments.cache) for name in arguments.networks.split(",")], arguments.json)


if __name__ == "__main__":
    main()
