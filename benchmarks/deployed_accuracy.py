"""Whether what was searched is what runs: one subnet as supernet, packed, in ONNX Runtime and in TVM, on a test set.

Subnets are uniform ones of 2 to 8 bits in weights and inputs, with every granularity and symmetry of the weights, and
those that searches at several budgets find. Of each the script prints the top-1 accuracy everywhere, and how far
outputs lie from those of the packed model, in steps: one step is what a change of one code in the input of the last
layer can make, its scale times the largest weight. A value that lies half-way between two codes may go to either in
another engine, and from there on the two answers differ by codes.

    python benchmarks/deployed_accuracy.py --networks digits,resnet --engines onnx,tvm-eqnet --widths 2,4,8
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
import tvm  # noqa: F401 (with its compiler, before opening a library loads the runtime alone)
from common import TASKS, layer_format, parser, show
from torch import Tensor
from torch.utils.data import TensorDataset
from trained import trained

import eqnet
import eqnet.runtime
from eqnet import Choices, LayerFormat, Supernet, Task
from eqnet.data import BATCH_NORM_SAMPLES, calibration_inputs
from eqnet.export.onnx import OnnxOptions, write_onnx
from eqnet.packed.layers import PackedLayer
from eqnet.packed.model import PackedModel
from eqnet.search.budget import Budget
from eqnet.search.driver import Settings, search

SPACE = "w=2-8:tensor,channel,group32:sym,asym a=2-8:asym edge=none"
BUDGETS = ("2.5bit", "3bit", "4bit", "5bit", "6bit")
BATCH = 250

Run = Callable[[Tensor], Tensor]
Engine = Callable[[PackedModel, list[Tensor], Path], Run]


def _onnx(exact: bool | None = None, fast: bool = False) -> Engine:
    def made(packed: PackedModel, calibration: list[Tensor], folder: Path) -> Run:
        path = folder / "model.onnx"
        write_onnx(packed, path, calibration[0][:1], calibration=calibration, options=OnnxOptions(exact=exact))
        return eqnet.runtime.open(path, exact=not fast)

    return made


def _tvm(kernels: str) -> Engine:
    def made(packed: PackedModel, calibration: list[Tensor], folder: Path) -> Run:
        from eqnet.export.tvm import TvmOptions, write_tvm

        path = folder / f"{kernels}.so"
        write_tvm(packed, path, calibration[0][:1], options=TvmOptions(kernels=kernels))
        return eqnet.runtime.open(path)

    return made


ENGINES: Mapping[str, Engine] = {
    "onnx": _onnx(fast=True),
    "onnx-session": _onnx(),
    "onnx-exact": _onnx(exact=True, fast=True),
    "onnx-exact-session": _onnx(exact=True),
    "tvm-eqnet": _tvm("eqnet"),
    "tvm-tir": _tvm("tir"),
}


def task_of(name: str, cache: Path) -> Task:
    """A task by the name of its network."""
    if name != "efficientnet-lite0":
        return eqnet.load_task(TASKS.get(name, name), cache=cache, seed=0)
    network = trained(name, cache)
    data = TensorDataset(network.images, network.labels)
    return Task(name, network.model, data, data, data)


def uniform(supernet: Supernet, widths: list[int]) -> Iterator[tuple[str, Mapping[str, LayerFormat]]]:
    """Subnets of one format throughout."""
    for bits in widths:
        for granularity in ("tensor", "channel", "group32"):
            for symmetric in (True, False):
                fmt = layer_format(bits, granularity, symmetric)
                yield str(fmt.weight), supernet.space.nearest(fmt)


def searched(supernet: Supernet, task: Task) -> Iterator[tuple[str, Mapping[str, LayerFormat]]]:
    """What searches find at BUDGETS."""
    settings = Settings(samples=60, validation=256, rounds=1, finalists=2, uniform=False)
    for budget in BUDGETS:
        yield budget, search(supernet, task, [Budget.parse(budget)], settings).result.subnet


def outputs(run: Run, images: Tensor) -> Tensor:
    """[N, classes] of all images."""
    with torch.inference_mode():
        return torch.cat([run(part) for part in images.split(BATCH)])


def step(packed: PackedModel) -> float:
    """What one code in the input of the last layer can change."""
    last: PackedLayer = [*packed.layers.values()][-1]
    assert last.input_scale is not None
    return float(last.input_scale.item() * last.dequantized_weight(torch.float32).abs().max())


def compared(
    supernet: Supernet, task: Task, subnet: Mapping[str, LayerFormat], engines: list[str], folder: Path
) -> dict[str, object]:
    """Accuracies in percent, and differences in steps."""
    assert isinstance(task.test, TensorDataset)
    images, labels = task.test.tensors
    calibration = calibration_inputs(task, "cpu", BATCH_NORM_SAMPLES)
    with supernet.running(subnet):
        supernet.reestimate_batch_norm(calibration)
        answers = {"supernet": outputs(supernet, images)}
    packed = eqnet.pack(supernet, subnet, calibration)
    reference = answers["packed"] = outputs(eqnet.runtime.compile(packed, images[:1]), images)
    for name in engines:
        answers[name] = outputs(ENGINES[name](packed, calibration, folder), images)
    row: dict[str, object] = {}
    for name, y in answers.items():
        row[f"{name} %"] = round(100 * (y.argmax(1) == labels).double().mean().item(), 2)
    for name, y in answers.items():
        if name != "packed":
            apart = (y - reference).abs().amax(1) / step(packed)
            row[f"{name} steps"] = round(apart.max().item(), 2)
            row[f"{name} beyond 1 %"] = round(100 * (apart > 1).double().mean().item(), 2)
    return row


def main() -> None:
    """Measures what is asked for and prints it."""
    options = parser(__doc__)
    options.formatter_class = argparse.RawDescriptionHelpFormatter
    known = "digits, resnet, mobilenet, efficientnet-lite0"
    options.add_argument("--networks", default="digits,resnet,mobilenet", help=f"of {known}")
    options.add_argument("--engines", default="onnx,tvm-eqnet", help=f"of {', '.join(ENGINES)}")
    options.add_argument("--widths", type=lambda text: [int(x) for x in text.split(",")], default=[*range(2, 9)])
    options.add_argument("--no-search", action="store_true", help="uniform subnets alone")
    arguments = options.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    rows: list[dict[str, object]] = []
    engines = arguments.engines.split(",")
    for name in arguments.networks.split(","):
        task = task_of(name, arguments.cache)
        supernet = eqnet.elasticize(task.model, Choices.parse(SPACE), task.example_inputs())
        supernet.calibrate(calibration_inputs(task, "cpu"))
        subnets = [*uniform(supernet, arguments.widths)]
        subnets += [] if arguments.no_search else [*searched(supernet, task)]
        for title, subnet in subnets:
            with tempfile.TemporaryDirectory() as folder:
                rows.append(
                    {"network": name, "subnet": title, **compared(supernet, task, subnet, engines, Path(folder))}
                )
            print(rows[-1], file=sys.stderr, flush=True)
    show(rows, arguments.json)


if __name__ == "__main__":
    main()
