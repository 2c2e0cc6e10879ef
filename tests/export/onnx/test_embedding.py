"""Embeddings: every format gives the rows of the dequantized table, bit for bit; weights that layers share, once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eqnet.export.onnx import OnnxOptions, write_onnx
from eqnet.formats import Format
from eqnet.packed.layers import PackedLayer
from eqnet.packed.model import PackedModel
from eqnet.packed.record import Record
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

ROWS = 11

FLOAT = 2e-6
"""Largest error over the largest output: float32 sums of some dozens of products, in an order of the engine's own."""

SHAPES = ((3, 4), (1,), (2, 1, 5))
"""Of indices."""


@dataclass(frozen=True)
class Sample:
    """Tables of every format, and indices for each."""

    layers: Sequence[PackedLayer]
    inputs: Sequence[Tensor]


@pytest.fixture(scope="module")
def sample() -> Sample:
    layers, inputs = [], []
    generator = torch.Generator().manual_seed(0)
    for i, fmt in enumerate(FORMATS):
        cols = COLS[i % len(COLS)]
        layers.append(packed_layer(nn.Embedding(ROWS, cols), f"e{i}", packed_tensor(fmt, ROWS, cols, i)))
        inputs.append(torch.randint(0, ROWS, SHAPES[i // 2 % len(SHAPES)], generator=generator))
    return Sample(layers, inputs)


def assert_equal(answers: Sequence[np.ndarray], sample: Sample) -> None:
    wrong = [
        f"{layer.weight_format} {layer.cols}"
        for answer, layer, x in zip(answers, sample.layers, sample.inputs, strict=True)
        if not np.array_equal(answer, layer.weight.dequantize()[x].numpy())
    ]
    assert not wrong


@pytest.mark.parametrize("portable", [False, True], ids=["onnxruntime", "portable"])
def test_every_format_gives_the_rows_of_the_dequantized_table(portable: bool, sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    written(path, sample.layers, sample.inputs, OnnxOptions(portable=portable), opset=21)
    for level in LEVELS:
        assert_equal(session(path, level, exact=False).run(None, feeds(sample.inputs)), sample)
    if portable:
        assert_equal(onnx.reference.ReferenceEvaluator(str(path)).run(None, feeds(sample.inputs)), sample)
        assert {opset.domain for opset in onnx.load(path).opset_import} == {""}
    else:
        assert operators(path).count("GatherBlockQuantized") == sum(
            layer.weight_format.group_size % 16 == 0 for layer in sample.layers
        )


class Tied(nn.Module):
    """A table that is the weight of the last layer as well, in the two ways in which models write it."""

    def __init__(self, fmt: Format, as_layer: bool) -> None:
        super().__init__()
        self.embed, self.bias = nn.Embedding(ROWS, 48), nn.Parameter(torch.linspace(-1, 1, ROWS))
        packed_layer(self.embed, "embed", packed_tensor(fmt, ROWS, 48, 0))
        self.head = nn.Linear(48, ROWS, bias=False) if as_layer else None
        if self.head is not None:
            packed_layer(self.head, "head", self.embed.weight)

    def forward(self, input_ids: Tensor) -> tuple[Tensor, ...]:
        x = self.embed(input_ids)
        if self.head is not None:
            return (self.head(x),)
        weight = self.embed.weight
        return F.linear(x, weight), F.linear(x.mean(1), weight, self.bias), x.mean(1) @ weight.T[:, 1:]


@pytest.mark.parametrize("portable", [False, True], ids=["onnxruntime", "portable"])
@pytest.mark.parametrize("as_layer", [False, True], ids=["weight", "layer"])
def test_what_layers_share_is_stored_once(as_layer: bool, portable: bool, tmp_path: Path) -> None:
    packed = PackedModel(Tied(Format.parse("uint5:group16"), as_layer).eval(), Record({}))
    x = torch.randint(0, ROWS, (3, 4), generator=torch.Generator().manual_seed(0))
    path = tmp_path / "model.onnx"
    report = write_onnx(packed, path, x[:2], options=OnnxOptions(portable=portable))
    padding = ROWS * 4  # bytes: in the file, a row's 3 zero points of 5 bits have the room of 8
    assert report.packed_bytes <= report.stored_bytes <= report.packed_bytes + padding
    dense = packed.layers["embed"].weight.dequantize().double()
    hidden = dense[x]
    expected = [hidden @ dense.T]
    if not as_layer:
        bias = packed.model.get_parameter("bias").double()
        expected += [hidden.mean(1) @ dense.T + bias, hidden.mean(1) @ dense.T[:, 1:]]
    for level in LEVELS:
        answers = session(path, level).run(None, {"input_ids": x.numpy()})
        for answer, right in zip(answers, expected, strict=True):
            assert abs(answer - right.numpy()).max() <= FLOAT * right.abs().max()
