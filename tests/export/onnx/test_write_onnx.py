"""Whole files: written, checked, and run by ONNX Runtime as they are."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort
import pytest
import torch

import eqnet
from eqnet import Choices
from eqnet.export.onnx import OnnxOptions, write_onnx
from eqnet.packed.model import PackedModel
from eqnet.tasks.networks import DigitsNet

NOISE = 1e-3
"""Of the largest output: sums in another order fall on the other side of a tie now and then."""


def packed_digits() -> tuple[PackedModel, torch.Tensor]:
    """A network with weights of 8 bits and inputs of 8 bits, and images."""
    torch.manual_seed(0)
    model, x = DigitsNet().eval(), torch.randn(7, 1, 8, 8)
    supernet = eqnet.elasticize(model, Choices.parse("w=8:channel:sym a=8 edge=none"), x)
    supernet.calibrate([x])
    return eqnet.pack(supernet, supernet.space.subnet([0] * len(supernet.space.sets))), x


def unoptimized(path: Path) -> ort.InferenceSession:
    """Runs each operator as the standard defines it."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_a_file_takes_any_batch_and_answers_as_the_packed_model(batch: int, tmp_path: Path) -> None:
    packed, x = packed_digits()
    path = tmp_path / "model.onnx"
    write_onnx(packed, path, x[:1], options=OnnxOptions(exact=True))
    expected = packed(x[:batch]).numpy()
    (answer,) = unoptimized(path).run(["output"], {"x": x[:batch].numpy()})
    assert abs(answer - expected).max() <= NOISE * abs(expected).max()
