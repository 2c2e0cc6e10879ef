"""What is between layers: sums, several readers, concatenation, pooling, and results that stay in floating point."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eqnet.export.onnx import OnnxOptions, write_onnx
from eqnet.tasks.networks import DigitsNet, MobileNet, ResNet
from tests.export.onnx.networks import (
    INTEGER_KERNELS,
    PRODUCTS_IN_FLOAT,
    answer,
    images,
    optimized_operators,
    packed_in,
    written_operators,
)

CLOSE = 0.03
"""Largest error over the largest output, with sums and means rounded to 8 bits on the way: a few steps of them."""

AS_CLOSE = 0.012
"""The same where nothing is rounded but what the packed model rounds, on the other side of ties now and then."""


class Graph(nn.Module):
    """Four convolutions, put together by a function of them and the input."""

    def __init__(self, forward: Callable[[Graph, Tensor], Tensor], *, kernel: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.a = nn.Conv2d(6, 6, kernel, padding=kernel // 2)
        self.b = nn.Conv2d(6, 6, 1)
        self.c = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.head = nn.Conv2d(6, 5, 1)
        self.wide = nn.Conv2d(12, 5, 1)
        self.fc = nn.Linear(6, 7)
        self.compute = forward

    def forward(self, x: Tensor) -> Tensor:
        """[N, 3, H, W] → whatever it is."""
        return self.compute(self, x)


def _residual(net: Graph, x: Tensor) -> Tensor:
    x = net.stem(x).relu()
    x = x + net.b(net.a(x).relu())
    return net.fc((x + net.c(x)).mean((2, 3)))


def _downsampled(net: Graph, x: Tensor) -> Tensor:
    x = net.stem(x).relu()
    x = (net.a(x) + net.b(x)).clamp(0.0, 1.5)
    return net.head(x)


def _joined(net: Graph, x: Tensor) -> Tensor:
    x = net.stem(x).relu()
    return net.wide(torch.cat([net.a(x).relu(), nn.functional.max_pool2d(net.b(x), 3, 1, 1)], 1))


def _gated(net: Graph, x: Tensor) -> Tensor:
    x = net.stem(x).relu()
    return net.head(net.a(x) * net.c(x).sigmoid())


def _averaged(net: Graph, x: Tensor) -> Tensor:
    x = nn.functional.avg_pool2d(net.stem(x).relu(), 2)
    return net.fc(net.b(x).relu().mean((2, 3), keepdim=True).flatten(1))


def _pointwise_trunk(net: Graph, x: Tensor) -> Tensor:
    x = net.b(net.stem(x).relu())
    y = nn.functional.hardswish(x) * 2 + x
    return net.head(y).flatten(2)


GRAPHS = {
    "residual": _residual,
    "downsampled": _downsampled,
    "joined": _joined,
    "gated": _gated,
    "averaged": _averaged,
    "pointwise trunk": _pointwise_trunk,
}


def graph(name: str) -> tuple[Graph, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Graph(GRAPHS[name]), images(6, 3, 10, 8)


def error(expected: Tensor, found: np.ndarray) -> float:
    assert found.shape == tuple(expected.shape)
    return float(np.abs(expected.numpy() - found).max() / expected.abs().max().item())


@pytest.mark.parametrize("name", GRAPHS)
def test_products_run_on_integers_and_answers_stay_close(name: str, tmp_path: Path) -> None:
    network, x = graph(name)
    packed = packed_in(network, x, "w=4:channel:sym a=8 edge=none")
    report = write_onnx(packed, tmp_path / "model.onnx", x[:1], calibration=[x[:4], x[4:]])
    for optimized in (False, True):
        for batch in (1, 5):
            (found,) = answer(report.path, x[:batch], optimized=optimized)
            assert error(packed(x[:batch]), found) <= CLOSE
    operators = optimized_operators(report.path, tmp_path)
    assert not PRODUCTS_IN_FLOAT & set(operators)
    assert all(form.integer for form in report.layers.values())


@pytest.mark.parametrize("name", ["residual", "gated", "pointwise trunk"])
def test_exact_files_round_nothing_else(name: str, tmp_path: Path) -> None:
    network, x = graph(name)
    packed = packed_in(network, x, "w=3:channel:asym a=5 edge=none")
    report = write_onnx(packed, tmp_path / "model.onnx", x, calibration=[x], options=OnnxOptions(exact=True))
    for optimized in (False, True):
        (found,) = answer(report.path, x, optimized=optimized)
        difference = np.abs(packed(x).numpy() - found)
        assert np.median(difference) <= AS_CLOSE * packed(x).abs().max().item() / 10
    reasons = [form.text for form in report.layers.values() if not form.integer]
    assert all("not rounded" in reason for reason in reasons)


def test_without_calibration_nothing_is_rounded(tmp_path: Path) -> None:
    network, x = graph("residual")
    packed = packed_in(network, x, "w=8:channel:sym a=8 edge=none")
    report = write_onnx(packed, tmp_path / "model.onnx", x)
    (found,) = answer(report.path, x, optimized=False)
    assert error(packed(x), found) <= AS_CLOSE / 10
    assert not report.layers["stem"].integer


def test_sums_of_results_are_sums_of_codes(tmp_path: Path) -> None:
    network, x = graph("residual")
    packed = packed_in(network, x, "w=8:channel:sym a=8 edge=none")
    report = write_onnx(packed, tmp_path / "model.onnx", x, calibration=[x])
    operators = optimized_operators(report.path, tmp_path)
    assert operators["QLinearAdd"] == 2
    assert operators["QLinearGlobalAveragePool"] == 1
    assert operators["QuantizeLinear"] <= 3


def test_pointwise_trunks_keep_channels_last_from_layer_to_layer(tmp_path: Path) -> None:
    network, x = graph("pointwise trunk")
    packed = packed_in(network, x, "w=8:channel:sym a=8 edge=none")
    report = write_onnx(packed, tmp_path / "model.onnx", x, options=OnnxOptions(exact=True))
    assert written_operators(report.path)["Transpose"] <= 2  # of codes before, and of the output


@pytest.mark.parametrize("network", [ResNet(), MobileNet(), DigitsNet()], ids=["ResNet", "MobileNet", "DigitsNet"])
def test_built_in_networks_are_nothing_but_integer_kernels(network: nn.Module, tmp_path: Path) -> None:
    x = images(4, 1, 16, 16)
    packed = packed_in(network, x, "w=8:channel:sym a=8 edge=none")
    report = write_onnx(packed, tmp_path / "model.onnx", x, calibration=[x])
    operators = optimized_operators(report.path, tmp_path)
    assert not {"Add", "Relu", "Clip", "ReduceMean"} & set(operators)
    assert not PRODUCTS_IN_FLOAT & set(operators)
    assert sum(operators[name] for name in INTEGER_KERNELS) >= len(packed.layers)
    (found,) = answer(report.path, x, optimized=True)
    assert error(packed(x), found) <= CLOSE
