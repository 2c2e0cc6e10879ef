"""Layers of every kind in every format, each on an input of its own, as they leave the exporter."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
import torch
from torch import Tensor, nn

from eqnet.export.onnx import OnnxReport, write_onnx
from eqnet.formats import Format
from eqnet.packed.layers import InputRange, PackedLayer
from eqnet.packed.model import PackedModel
from eqnet.packed.record import LayerRecord, Record
from tests.eqnet.packed.kinds import KINDS, made
from tests.export.onnx.layers_of_any_format import packed_layer, packed_tensor
from tests.export.onnx.networks import Array, answer, written_operators

WEIGHTS = [
    Format.parse(f"{sign}int{bits}:{granularity}")
    for granularity, bits, sign in product(("tensor", "channel", "group8"), range(2, 9), ("", "u"))
]
"""Fourteen of each granularity; with as many formats of inputs in turn, each is with every one of those once."""

INPUTS = [Format(bits, symmetric) for bits, symmetric in product(range(2, 9), (True, False))]

SAME_SUMS = 3e-6
"""Largest error over the largest result where the same products are added in another order."""

ROUNDED_BIAS = 1e-4
"""The same where a bias is rounded to a multiple of both scales, as the integer kernel of Gemm takes it."""


class Branches(nn.Module):
    """Layers side by side, each on a part of the input.

    Args:
        layers: of any kinds.
        shapes: of a sample of the input of each.
    """

    def __init__(self, layers: list[PackedLayer], shapes: list[torch.Size]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.shapes = shapes

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """[N, all numbers] → the result of each layer."""
        parts = x.split([shape.numel() for shape in self.shapes], 1)
        inputs = (part.reshape(-1, *shape) for part, shape in zip(parts, self.shapes, strict=True))
        return tuple(layer(part) for layer, part in zip(self.layers, inputs, strict=True))


def branches(kinds: list[str]) -> tuple[PackedModel, Tensor]:
    """A layer of each kind, with formats in turn."""
    modules, shapes, records = [], [], {}
    for i, kind in enumerate(kinds):
        layer, x = made(kind)
        name, weight, fmt = f"layers.{i}", WEIGHTS[i % len(WEIGHTS)], INPUTS[i * 5 % len(INPUTS)]
        rows, cols = (layer.weight.shape[0], layer.weight[0].numel())
        if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            rows, cols = layer.out_channels, layer.weight.numel() // layer.out_channels
        zero = 0 if fmt.symmetric else fmt.qmax // 3
        seen = InputRange(fmt, torch.tensor([3 / fmt.qmax]), torch.tensor([zero], dtype=torch.int16))
        packed = packed_layer(layer, name, packed_tensor(weight, rows, cols, i), seen)
        modules.append(packed)
        shapes.append(x.shape[1:])
        records[name] = LayerRecord(packed.kind.__name__, weight, fmt, tuple(packed.shape), "float32")
    x = torch.randn(3, sum(map(torch.Size.numel, shapes)), generator=torch.Generator().manual_seed(0))
    return PackedModel(Branches(modules, shapes), Record(records)), x


def error(expected: Tensor, found: Array) -> float:
    return float(np.abs(expected.numpy() - found).max() / max(expected.abs().max().item(), 1))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[PackedModel, Tensor, OnnxReport]:
    kinds = [kind for kind in KINDS if kind not in ("embedding", "conv2d without a batch")]
    packed, x = branches([kinds[i % len(kinds)] for i in range(5 * len(kinds))])
    return packed, x, write_onnx(packed, tmp_path_factory.mktemp("layers") / "model.onnx", x[:1])


Written = tuple[PackedModel, Tensor, OnnxReport]


def test_layers_compute_what_they_did_as_the_standard_defines_it(written: Written) -> None:
    packed, x, report = written
    for i, (expected, found) in enumerate(zip(packed(x), answer(report.path, x, optimized=False), strict=True)):
        assert error(expected, found) <= ROUNDED_BIAS, packed.layers[f"layers.{i}"]


def test_layers_compute_what_they_did_on_the_engines_kernels(written: Written) -> None:
    packed, x, report = written
    for i, (expected, found) in enumerate(zip(packed(x), answer(report.path, x, optimized=True), strict=True)):
        assert error(expected, found) <= ROUNDED_BIAS, packed.layers[f"layers.{i}"]


def test_each_layer_says_how_it_was_written(written: Written) -> None:
    packed, _, report = written
    assert set(report.layers) == set(packed.layers)
    for name, form in report.layers.items():
        layer: PackedLayer = packed.layers[name]
        if layer.weight.scale.shape[1] > 1 or "Transpose" in layer.kind.__name__:
            assert not form.integer
            assert form.text.startswith("floating point: ")


def test_codes_are_as_narrow_as_onnx_has_types(written: Written) -> None:
    packed, _, report = written
    types = {initializer.name: initializer.data_type for initializer in onnx.load(report.path).graph.initializer}
    names = {2: ("UINT2", "INT2"), 3: ("UINT4", "INT4"), 4: ("UINT4", "INT4")}
    for name, layer in packed.layers.items():
        if layer.kind is nn.Linear and (layer.weight.scale.shape[1] > 1 or layer.codes.numel() == 1):
            continue  # those in floating point have forms of their own, and equal ones are stored once
        expected = names.get(layer.weight_format.bits, ("UINT8", "INT8"))[layer.weight_format.symmetric]
        assert onnx.TensorProto.DataType.Name(types.get(f"{name}.weight") or types[f"{name}.weight_T"]) == expected
    assert written_operators(report.path)["ConvTranspose"] == 15


def test_the_reference_implementation_agrees(tmp_path: Path) -> None:
    packed, x = branches(["linear", "conv2d, grouped", "conv2d, depthwise, reflected", "linear on 4-D"])
    report = write_onnx(packed, tmp_path / "model.onnx", x)
    found = onnx.reference.ReferenceEvaluator(str(report.path)).run(None, {"x": x.numpy()})
    for expected, result in zip(packed(x), found, strict=True):
        assert error(expected, result) <= SAME_SUMS
