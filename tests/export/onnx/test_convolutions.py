"""Convolutions whose results are quantized: all on integers, with the codes that the packed model has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from eqnet.export.onnx import OnnxOptions, write_onnx
from tests.export.onnx.networks import (
    PRODUCTS_IN_FLOAT,
    Probed,
    answer,
    departures,
    images,
    optimized_operators,
    packed_in,
    written_operators,
)

OTHER_SIDE = 0.01
"""Part of the codes that may be off by one: those whose value, with a bias that is rounded, is next to a tie."""

CHANNELS = 8

POOLED = nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.ReLU())

CASES: dict[str, tuple[Callable[[], nn.Module], nn.Module | None, str]] = {
    "plain": (lambda: nn.Conv2d(3, CHANNELS, 3), None, "w=8:channel:sym a=8"),
    "strided": (lambda: nn.Conv2d(3, CHANNELS, 3, 2, 1), nn.ReLU(), "w=4:channel:asym a=8"),
    "grouped, dilated": (lambda: nn.Conv2d(4, CHANNELS, 3, 1, 2, 2, 2), nn.ReLU6(), "w=4:tensor:sym a=4"),
    "depthwise": (lambda: nn.Conv2d(8, CHANNELS, 3, 1, 1, groups=8), nn.Hardtanh(-0.5, 0.7), "w=2:channel:sym a=2"),
    "reflected": (
        lambda: nn.Conv2d(3, CHANNELS, 3, 1, 1, padding_mode="reflect"),
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)),
        "w=3:tensor:asym a=5:sym",
    ),
    "circular": (lambda: nn.Conv2d(3, CHANNELS, 3, 1, 1, padding_mode="circular"), POOLED, "w=8:channel:asym a=3"),
    "replicated": (
        lambda: nn.Conv2d(3, CHANNELS, (3, 2), 1, (1, 0), padding_mode="replicate"),
        None,
        "w=6:channel:sym a=7:sym",
    ),
    "same size": (
        lambda: nn.Conv2d(3, CHANNELS, (3, 5), padding="same", dilation=(2, 1)),
        nn.ReLU(),
        "w=8:tensor:sym a=8:sym",
    ),
    "pointwise, strided": (lambda: nn.Conv2d(3, CHANNELS, 1, 2, bias=False), nn.ReLU6(), "w=5:channel:asym a=6"),
    "padded by a layer": (
        lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 2, 1)), nn.Conv2d(3, CHANNELS, 3, 2)),
        POOLED,
        "w=2:channel:sym a=2",
    ),
}
"""A layer, what comes after it, and formats."""


def probed(case: str, *, norm: bool) -> tuple[Probed, Tensor]:
    """A network, with a batch norm that turns a channel around and leaves nothing of another one but its shift."""
    make, activation, _ = CASES[case]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = make()
        convolution = next(module for module in layer.modules() if isinstance(module, nn.Conv2d))
        batch_norm = nn.BatchNorm2d(CHANNELS)
        with torch.no_grad():
            batch_norm.bias.normal_(0, 0.1)
            batch_norm.weight[2], batch_norm.weight[3], batch_norm.bias[3] = -1, 0, 0.3
        network = Probed(nn.Sequential(layer, batch_norm) if norm else layer, CHANNELS, activation)
    return network, images(5, convolution.in_channels, 13, 12)


@pytest.mark.parametrize("case", CASES)
def test_codes_are_those_of_the_packed_model(case: str, tmp_path: Path) -> None:
    network, x = probed(case, norm=list(CASES).index(case) % 2 == 0 or "padded" in case)
    packed = packed_in(network, x, f"{CASES[case][2]} edge=none")
    report = write_onnx(packed, tmp_path / "model.onnx", x[:1], options=OnnxOptions(exact=True))
    expected = packed(x).numpy()
    (found,) = answer(report.path, x, optimized=False)
    assert departures(packed, "probe", expected, found) == (0, 0)
    (found,) = answer(report.path, x, optimized=True)
    most, part = departures(packed, "probe", expected, found)
    assert most <= 1
    assert part <= OTHER_SIDE
    operators = optimized_operators(report.path, tmp_path)
    assert operators["QLinearConv"] == operators["QGemm"] == 1
    assert not PRODUCTS_IN_FLOAT & set(operators)
    assert "DequantizeLinear" not in operators
    assert all(form.integer for form in report.layers.values())


def test_what_a_range_of_codes_bounds_anyway_is_left_out(tmp_path: Path) -> None:
    network = Probed(nn.Conv2d(3, CHANNELS, 3, padding=1), CHANNELS, nn.ReLU())
    x = images(4, 3, 9, 9)
    report = write_onnx(packed_in(network, x, "w=8 a=8:asym edge=none"), tmp_path / "model.onnx", x)
    assert not {"Relu", "Clip"} & set(written_operators(report.path))


def test_zeros_around_codes_are_added_by_the_convolution(tmp_path: Path) -> None:
    network = Probed(nn.Sequential(nn.ZeroPad2d((0, 1, 2, 1)), nn.Conv2d(3, CHANNELS, 3, 2)), CHANNELS)
    x = images(4, 3, 9, 9)
    report = write_onnx(packed_in(network, x, "w=8 a=4:asym edge=none"), tmp_path / "model.onnx", x)
    assert "Pad" not in written_operators(report.path)


def test_one_dimension_and_three_run_on_integers_too(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv1d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv1d(4, 5, 1))
    x = images(4, 3, 9)
    packed = packed_in(network, x, "w=8 a=8 edge=none")
    report = write_onnx(packed, tmp_path / "model.onnx", x)
    assert not PRODUCTS_IN_FLOAT & set(optimized_operators(report.path, tmp_path))
    network = nn.Sequential(nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 5, 1, 2))
    x = images(3, 2, 4, 3, 5)
    packed = packed_in(network, x, "w=8 a=8 edge=none")
    report = write_onnx(packed, tmp_path / "model.onnx", x)
    assert not PRODUCTS_IN_FLOAT & set(optimized_operators(report.path, tmp_path))
    (found,) = answer(report.path, x, optimized=True)
    assert departures(packed, "2", packed(x).numpy(), found)[0] <= 1
