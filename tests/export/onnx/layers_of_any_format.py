"""Packed layers with codes, scales and zero points drawn at random, each in a format of its own, as one ONNX graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import torch
from torch import Tensor, nn

from eqnet.export.onnx import LayerForm, OnnxOptions
from eqnet.export.onnx.lowering import lower
from eqnet.export.onnx.saving import save
from eqnet.formats import Format
from eqnet.packed.layers import PACKED, InputRange, PackedLayer
from eqnet.packed.planes import pack
from eqnet.packed.tensor import PackedTensor

GRANULARITIES = (
    "group16", "group32", "group128", "group8", "group24", "group6", "group7", "group48", "channel", "tensor"
)  # fmt: skip
"""Groups that ONNX Runtime has kernels for, and others: of an odd size, of more columns than there are, and none."""

FORMATS = [
    Format.parse(f"{sign}int{bits}:{granularity}")
    for bits, granularity, sign in product(range(2, 9), GRANULARITIES, ("", "u"))
]

SCALE_DTYPES = (torch.float16, torch.float32, torch.bfloat16)

COLS = (64, 100, 44, 43)
"""Of layers in turn: the whole of most groups, and parts of all."""

LEVELS = {
    "optimized": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "as written": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


def packed_tensor(fmt: Format, rows: int, cols: int, seed: int) -> PackedTensor:
    """Every code and zero point that there is, and scales of both signs, among them 0."""
    generator = torch.Generator().manual_seed(seed)

    def codes(*shape: int) -> Tensor:
        return torch.randint(0, 1 << fmt.bits, shape, generator=generator)

    shape = fmt.scale_shape(rows, cols)
    scale = torch.randn(shape, generator=generator).to(SCALE_DTYPES[seed % len(SCALE_DTYPES)])
    if scale.numel() > 1:
        scale.view(-1)[1] = 0
    zero_point = None if fmt.symmetric else pack(codes(*shape), fmt.bits)
    return PackedTensor(fmt, rows, cols, pack(codes(rows, cols), fmt.bits), scale, zero_point)


def packed_layer(
    layer: nn.Module, path: str, weight: PackedTensor, input_range: InputRange | None = None
) -> PackedLayer:
    """``layer`` itself with that weight and, if it has a bias, that of ``layer``."""
    bias = layer.bias.detach().clone() if isinstance(getattr(layer, "bias", None), Tensor) else None
    return PACKED[type(layer)].convert(layer, path, weight, bias, input_range)


def written(
    path: Path, layers: Sequence[PackedLayer], inputs: Sequence[Tensor], options: OnnxOptions, opset: int = 25
) -> Mapping[str, LayerForm]:
    """Writes a graph with one call of each layer, on an input x0, x1, … of its own, with results y0, y1, …."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": opset, "eqnet": 1}, name="layers")
    for i, (layer, x) in enumerate(zip(layers, inputs, strict=True)):
        dtype = ir.DataType.FLOAT if x.is_floating_point() else ir.DataType.INT64
        shape = ir.Shape([f"batch{i}", *x.shape[1:]])
        value = ir.Value(name=f"x{i}", shape=shape, type=ir.TensorType(dtype))
        width = layer.rows if x.is_floating_point() else layer.cols
        result = ir.Value(
            name=f"y{i}",
            shape=ir.Shape([*shape[: x.ndim - x.is_floating_point()], width]),
            type=ir.TensorType(ir.DataType.FLOAT),
        )
        attributes = [ir.AttrString("path", layer.path)]
        graph.append(ir.Node("eqnet", "Layer", [value], attributes=attributes, outputs=[result]))
        graph.inputs.append(value)
        graph.outputs.append(result)
    forms = lower(graph, {layer.path: layer for layer in layers}, options)
    save(ir.Model(graph, ir_version=13), path)
    return forms


def session(path: Path, level: str, exact: bool = True) -> ort.InferenceSession:
    """What runs the file in one thread; ``exact`` has no inputs rounded that the file does not round."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = LEVELS[level]
    if exact:
        options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds(inputs: Sequence[Tensor]) -> dict[str, np.ndarray]:
    return {f"x{i}": x.numpy() for i, x in enumerate(inputs)}


def operators(path: Path) -> list[str]:
    """Types of the operators of a file."""
    return [node.op_type for node in onnx.load(path, load_external_data=False).graph.node]
