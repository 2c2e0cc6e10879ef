"""Linear layers with an input in floating point: every format, in ONNX Runtime and in the reference implementation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from eqnet.export.onnx import OnnxOptions
from eqnet.formats import Format
from eqnet.packed.layers import InputRange, PackedLayer
from tests.export.onnx.layers_of_any_format import (
    COLS,
    FORMATS,
    LEVELS,
    feeds,
    operators,
    packed_layer,
    packed_tensor,
    session,
    written,
)

FLOAT = 2e-6
"""Largest error over the largest output: float32 sums of some hundred products, in an order of the engine's own."""

ROUNDED_INPUT = 2e-2
"""The same where inputs are rounded to 8 bits in blocks."""

SHAPES = ((3, 1), (1, 2), (5,), (2, 3, 1))
"""Of inputs, without their columns: one row and odd numbers of them, in 2 to 4 dimensions."""


@dataclass(frozen=True)
class Sample:
    """Layers of every format, an input for each, and a file for ONNX Runtime."""

    layers: Sequence[PackedLayer]
    inputs: Sequence[Tensor]
    path: Path


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    layers, inputs = [], []
    generator = torch.Generator().manual_seed(0)
    for i, fmt in enumerate(FORMATS):
        cols, rows = COLS[i % len(COLS)], 5 + i % 3
        layers.append(packed_layer(nn.Linear(cols, rows, bias=i % 3 > 0), f"l{i}", packed_tensor(fmt, rows, cols, i)))
        inputs.append(torch.randn(*SHAPES[i // 2 % len(SHAPES)], cols, generator=generator))
    path = tmp_path_factory.mktemp("weight_only") / "model.onnx"
    written(path, layers, inputs, OnnxOptions())
    return Sample(layers, inputs, path)


def exact(layer: PackedLayer, x: Tensor) -> np.ndarray:
    bias = layer.bias.double() if layer.bias is not None else None
    return nn.functional.linear(x.double(), layer.weight.dequantize().double(), bias).numpy()


def assert_close(answers: Sequence[np.ndarray], sample: Sample) -> None:
    wrong = {}
    for answer, layer, x in zip(answers, sample.layers, sample.inputs, strict=True):
        expected = exact(layer, x)
        error = abs(answer - expected).max() / abs(expected).max()
        if answer.shape != expected.shape or not error <= FLOAT:
            wrong[f"{layer.weight_format} {layer.rows}×{layer.cols}, {tuple(x.shape)}"] = error
    assert not wrong


@pytest.mark.parametrize("level", LEVELS)
def test_every_format_gives_the_product_with_the_dequantized_weight(level: str, sample: Sample) -> None:
    assert_close(session(sample.path, level, exact=False).run(None, feeds(sample.inputs)), sample)


def test_every_format_does_in_operators_of_the_standard_alone(sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    written(path, sample.layers, sample.inputs, OnnxOptions(portable=True))
    for level in LEVELS:
        assert_close(session(path, level).run(None, feeds(sample.inputs)), sample)
    assert_close(onnx.reference.ReferenceEvaluator(str(path)).run(None, feeds(sample.inputs)), sample)
    assert {opset.domain for opset in onnx.load(path).opset_import} == {""}


def test_weights_take_exactly_their_bits_in_the_file(sample: Sample) -> None:
    sizes: dict[str, int] = {}
    for tensor in onnx.load(sample.path).graph.initializer:
        layer, _, part = tensor.name.partition(".")
        if part.startswith("weight"):
            sizes[layer] = sizes.get(layer, 0) + len(tensor.raw_data)
    for layer in sample.layers:
        if layer.weight_format.group_size == 7:  # as types of ONNX
            continue
        bits, rows, cols = layer.weight_format.bits, layer.rows, layer.cols
        assert rows * cols * bits / 8 <= sizes[layer.path] <= rows * (cols + 7) * bits / 8, layer.weight_format


def test_unpacking_is_done_when_the_file_is_opened(sample: Sample, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.log_severity_level = 3  # that the optimized file is for this machine
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(str(sample.path), options, providers=["CPUExecutionProvider"])
    left = set(operators(tmp_path / "optimized.onnx"))
    of_seven = {"DequantizeLinear", "MatMul", "Gemm"}  # groups of an odd size
    assert left == {"MatMulNBits", "Add", "Pad", "Reshape", *of_seven}


def test_an_ordinary_weight_is_one_operator_on_what_is_stored(tmp_path: Path) -> None:
    layer = packed_layer(nn.Linear(64, 5), "fc", packed_tensor(Format.parse("uint4:group32"), 5, 64, 1))
    written(tmp_path / "model.onnx", [layer], [torch.zeros(2, 64)], OnnxOptions())
    assert operators(tmp_path / "model.onnx") == ["Constant", "Reshape", "MatMulNBits"]  # bytes of a row, of its blocks


@pytest.mark.parametrize("bits", range(2, 9))
def test_inputs_are_rounded_only_where_int8_products_were_asked_for(bits: int, tmp_path: Path) -> None:
    layer = packed_layer(nn.Linear(64, 5), "fc", packed_tensor(Format.parse(f"uint{bits}:group32"), 5, 64, 1))
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    expected = exact(layer, x)
    errors = {}
    for compute in ("float", "int8"):
        layer.compute = compute
        written(tmp_path / "model.onnx", [layer], [x], OnnxOptions())
        (answer,) = session(tmp_path / "model.onnx", "optimized", exact=False).run(None, feeds([x]))
        errors[compute] = abs(answer - expected).max() / abs(expected).max()
    assert errors["float"] <= FLOAT < errors["int8"] <= ROUNDED_INPUT


@pytest.mark.parametrize("fmt", ["uint4:group32", "int3:group24", "uint8:group7"])
@pytest.mark.parametrize("portable", [False, True], ids=["onnxruntime", "portable"])
def test_scales_for_groups_with_a_quantized_input_round_it_once(fmt: str, portable: bool, tmp_path: Path) -> None:
    input_range = InputRange(Format.parse("uint4:tensor"), torch.tensor([0.25]), torch.tensor([7], dtype=torch.int16))
    layer = packed_layer(nn.Linear(64, 5), "fc", packed_tensor(Format.parse(fmt), 5, 64, 1), input_range)
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    rounded = ((x / 0.25).round() + 7).clamp(0, 15) * 0.25 - 7 * 0.25
    path = tmp_path / "model.onnx"
    written(path, [layer], [x], OnnxOptions(portable=portable))
    for level in LEVELS:
        (answer,) = session(path, level, exact=False).run(None, feeds([x]))
        expected = exact(layer, rounded)
        assert abs(answer - expected).max() <= FLOAT * abs(expected).max()
