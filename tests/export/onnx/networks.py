"""Networks for the ONNX exporter, packed, and what runs their files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

import eqnet
from eqnet import Choices
from eqnet.packed.model import PackedModel

Array = np.ndarray[Any, Any]

INTEGER_KERNELS = {"QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat", "QLinearAdd"}
"""What ONNX Runtime makes of products and sums that it takes on integers."""

PRODUCTS_IN_FLOAT = {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul", "ConvTranspose"}
"""Those that it does not."""


def packed_in(model: nn.Module, x: Tensor, choices: str, pick: Sequence[int] | None = None) -> PackedModel:
    """``model`` in one subnet of the space ``choices``: the first one, or that of the indices ``pick``."""
    supernet = eqnet.elasticize(model.eval(), Choices.parse(choices), x)
    supernet.calibrate([x])
    return eqnet.pack(supernet, supernet.space.subnet(pick or [0] * len(supernet.space.sets)))


def session(path: Path, *, optimized: bool, graph: Path | None = None) -> ort.InferenceSession:
    """ONNX Runtime as it is by default, or running each operator as the standard defines it.

    Args:
        path: of the file.
        optimized: which of the two.
        graph: where to write the optimized graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if graph is not None:
        options.optimized_model_filepath = str(graph)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answer(path: Path, *inputs: Tensor, optimized: bool) -> list[Array]:
    """All outputs of the file."""
    running = session(path, optimized=optimized)
    names = [value.name for value in running.get_inputs()]
    results: list[Array] = running.run(None, {name: x.numpy() for name, x in zip(names, inputs, strict=True)})
    return results


def optimized_operators(path: Path, folder: Path) -> Counter[str]:
    """How often each operator is in the graph that ONNX Runtime runs."""
    session(path, optimized=True, graph=folder / "optimized.onnx")
    return Counter(node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node)


def written_operators(path: Path) -> Counter[str]:
    """How often each operator is in the file."""
    return Counter(node.op_type for node in onnx.load(path).graph.node)


class Probed(nn.Module):
    """A layer, an activation, and a convolution that gives back what the quantization of its input leaves.

    Args:
        layer: the one in question.
        channels: of its result.
        activation: after it.
    """

    def __init__(self, layer: nn.Module, channels: int, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.layer = layer
        self.activation = activation or nn.Identity()
        self.probe = nn.Conv2d(channels, channels, 1, bias=False)
        nn.init.dirac_(self.probe.weight)

    def forward(self, x: Tensor) -> Tensor:
        """[N, in, H, W] → [N, channels, H', W']."""
        y: Tensor = self.probe(self.activation(self.layer(x)))
        return y


def departures(packed: PackedModel, probe: str, expected: Array, found: Array) -> tuple[int, float]:
    """By how many steps of the input of layer ``probe`` two results are apart, at most, and in which part of them."""
    scale = packed.layers[probe].input_scale
    assert scale is not None
    steps = np.abs(expected - found) / scale.item()
    return int(np.rint(steps).max()), float((steps > 0.5).mean())


def images(*shape: int, seed: int = 0) -> Tensor:
    """Noise."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
