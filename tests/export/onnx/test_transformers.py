"""Whole transformers: any batch, any length, answers as the packed model's, in the kernels that are meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import Tensor, nn

from eqnet.export.onnx import OnnxOptions, write_onnx
from eqnet.packed.model import PackedModel
from tests.export.onnx.layers_of_any_format import LEVELS, operators, session
from tests.export.onnx.transformers import LONGEST, TOKENS, Language, Vision, packed

FLOAT = 5e-6
"""Largest error over the largest output: float32 sums in another order, through two blocks."""

OTHER_SIDE = 2e-2
"""The same where an input that such a sum puts on the other side of a tie takes the next code of 8 bits."""

LINEARS = 14
"""Of the language model: four in each attention, two and three in the networks, and the last layer."""


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def assert_answers(path: Path, model: PackedModel, x: Tensor, bound: float) -> None:
    expected = model(x).numpy()
    for level in LEVELS:
        runner = session(path, level)
        (answer,) = runner.run(["output"], {runner.get_inputs()[0].name: x.numpy()})
        errors = abs(answer - expected) / abs(expected).max()
        assert answer.shape == expected.shape
        assert errors.max() <= bound
        assert np.median(errors) <= FLOAT


def optimized_operators(path: Path, folder: Path) -> list[str]:
    """Of what ONNX Runtime makes of a file by default."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # that the optimized file is for this machine
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return operators(folder / "optimized.onnx")


@pytest.mark.parametrize(
    ("space", "portable", "bound", "kernel"),
    [
        ("w=4:group16:asym a=float", False, FLOAT, "MatMulNBits"),
        ("w=4:group16:sym a=float", True, FLOAT, "MatMulNBits"),
        ("w=4:channel:sym a=8", False, OTHER_SIDE, "MatMulIntegerToFloat"),
    ],
    ids=["weight-only", "weight-only, portable", "W4A8"],
)
def test_language_models_take_any_batch_and_length(
    space: str, portable: bool, bound: float, kernel: str, tmp_path: Path
) -> None:
    model = packed(Language(), space, torch.randint(0, TOKENS, (4, LONGEST)))
    path = tmp_path / "model.onnx"
    report = write_onnx(model, path, torch.randint(0, TOKENS, (2, 7)), options=OnnxOptions(portable=portable))
    assert report.dynamic == ("batch", "sequence")
    assert set(report.layers) == set(model.layers)
    for size in ((1, 1), (1, LONGEST), (3, 5)):
        assert_answers(path, model, torch.randint(0, TOKENS, size), bound)
    found = optimized_operators(path, tmp_path)
    # Portable, the last layer has the form of the embedding, which it shares.
    assert found.count(kernel) == LINEARS - portable


def test_vision_models_take_any_batch(tmp_path: Path) -> None:
    model = packed(Vision(), "w=8:channel:sym a=8", torch.randn(8, 1, 8, 8))
    path = tmp_path / "model.onnx"
    report = write_onnx(model, path, torch.randn(1, 1, 8, 8), options=OnnxOptions(exact=True))
    assert report.dynamic == ("batch",)
    for batch in (1, 5):
        assert_answers(path, model, torch.randn(batch, 1, 8, 8), OTHER_SIDE)
    assert optimized_operators(path, tmp_path).count("MatMulIntegerToFloat") >= 6  # all linear layers but the last


class Counted(nn.Module):
    """Takes the number of its samples for a constant, which it is to torch.export."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc(torch.cat([torch.ones(1, 2).expand(len(x), -1), x], 1))
        return y


def test_a_size_that_a_model_insists_on_is_that_of_the_file(tmp_path: Path) -> None:
    model = packed(Counted(), "w=4:channel:sym a=float", torch.randn(4, 2))
    path = tmp_path / "model.onnx"
    assert write_onnx(model, path, torch.randn(4, 2)).dynamic == ()
    assert session(path, "optimized").get_inputs()[0].shape == [4, 2]
