"""Which formats take the same time in ONNX Runtime: those whose optimized graphs are the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import eqnet
from eqnet import Choices, Format, LayerFormat
from eqnet.export.onnx import OnnxOptions, write_onnx
from eqnet.search.latency import onnxruntime as module
from eqnet.search.latency.engine import Engine
from eqnet.search.latency.kernels import packed_layer, packed_network
from eqnet.search.latency.onnxruntime import stand_in
from eqnet.space import Layer
from eqnet.supernet import Supernet

ROUNDING = 1e-5
"""Relative to the largest result: sums in float32, in another order."""

ROW = module.onnxruntime(
    "onnxruntime",
    lambda packed, path, x, calibration: write_onnx(
        packed, path, x, calibration=calibration, options=OnnxOptions(exact=False)
    ),
)


def made(model: nn.Module, x: torch.Tensor, choices: str = "w=8 a=8") -> tuple[Supernet, Engine]:
    supernet = eqnet.elasticize(model.eval(), Choices.parse(f"{choices} edge=none"), x)
    some = packed_network(supernet, supernet.space.subnet([0] * len(supernet.space.sets)))
    return supernet, ROW.opened(some, x, supernet.space, 1)


def parsed(text: str) -> LayerFormat:
    weight, _, activation = text.partition(" ")
    return LayerFormat(Format.parse(weight), Format.parse(activation) if activation else None)


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "convolution": (lambda: nn.Conv2d(8, 12, 3, padding=1), (1, 8, 5, 5), "QLinearConv"),
    "depthwise": (lambda: nn.Conv2d(16, 16, 3, groups=16, bias=False), (1, 16, 5, 5), "QLinearConv"),
    "linear": (lambda: nn.Linear(24, 10), (1, 24), "QGemm"),
}

FORMATS = [
    f"{sign}int{bits}:{granularity} {activation}:tensor"
    for bits, activations in ((3, ("int8", "uint5")), (8, ("int8", "uint2", "uint8", "int2")))
    for sign in ("", "u")
    for granularity in ("tensor", "channel")
    for activation in activations
]


@pytest.mark.parametrize("name", LAYERS)
def test_one_format_stands_for_those_that_run_the_same_kernels(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make, shape, kernel = LAYERS[name]
    x = torch.rand(shape)
    supernet, engine = made(nn.Sequential(make(), nn.Identity()), x)
    (layer,) = supernet.space.layers
    parts: list[bytes] = []
    monkeypatch.setattr(module, "_called", lambda path, part, x, threads: parts.append(part))
    engine.layers([packed_layer(supernet.elastic["0"], layer, parsed(fmt), 32, True) for fmt in FORMATS], x)
    kernels = defaultdict(set)
    for fmt, part in zip(FORMATS, parts, strict=True):
        kernels[engine.stand_in(layer, parsed(fmt))].add(optimized(part, tmp_path / "optimized.onnx"))
    assert all(len(found) == 1 for found in kernels.values()), kernels
    assert all(kernel in found for graphs in kernels.values() for found, _ in graphs)
    assert len(kernels) == 16, "two weights in one scale or many; inputs clipped or not, with a ReLU in them or not"
    assert {(int("Clip" in found), int("Relu" in found)) for graphs in kernels.values() for found, _ in graphs} == {
        (0, 0), (0, 1), (1, 0), (1, 1)
    }  # fmt: skip


def optimized(model: bytes, path: Path) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """What ONNX Runtime runs: operators, and the types and shapes that are stored."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(path), 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(path).graph
    stored = sorted({(part.data_type, tuple(part.dims)) for part in graph.initializer})
    return tuple(node.op_type for node in graph.node), tuple(stored)


def test_what_is_dequantized_at_every_run_depends_on_all_of_its_format() -> None:
    supernet, _ = made(nn.Linear(64, 8), torch.zeros(1, 64))
    (layer,) = supernet.space.layers
    different = ["int4:group16", "uint4:group16", "int4:group32", "int8:group32", "int4:group32 uint8:tensor"]
    assert len({stand_in(layer, parsed(text)) for text in different}) == len(different)


def test_a_folded_batch_norm_makes_one_scale_a_channel_but_leaves_them_one_zero_point() -> None:
    layer = Layer("conv", "Conv2d", rows=4, cols=27, macs=1, inputs=1, has_bias=True, folded=True)
    texts = [f"{weight} uint8:tensor" for weight in ("int4:tensor", "int8:channel", "uint4:tensor", "uint4:channel")]
    stands = [str(stand_in(layer, parsed(text)).weight) for text in texts]
    assert stands == ["int8:channel", "int8:channel", "uint8:tensor", "uint8:channel"]


def test_networks_and_layers_side_by_side_are_run_and_right() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 5))
    x = torch.randn(1, 3, 8, 8)
    supernet, engine = made(model, x, "w=4:channel:sym a=8:asym")
    packed = packed_network(supernet, supernet.space.subnet([0, 0]))
    torch.testing.assert_close(result(engine.network(packed, x)), packed(x), rtol=0, atol=close_to(packed(x)))
    between, layer = torch.randn(1, 4 * 6 * 6), supernet.space.layers[1]
    formats = [
        packed_layer(supernet.elastic["3"], layer, parsed(fmt), 32)
        for fmt in ("int4:channel uint8:tensor", "uint8:group16")
    ]
    expected = [one(between) for one in formats]
    for call, y in zip(engine.layers(formats, between), expected, strict=True):
        torch.testing.assert_close(result(call), y, rtol=0, atol=close_to(y))


def result(call: Callable[[], Any]) -> torch.Tensor:
    return torch.from_numpy(call()[0])


def close_to(y: torch.Tensor) -> float:
    return ROUNDING * float(y.abs().max())
