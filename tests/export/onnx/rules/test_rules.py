"""Each rule on a graph that it is for: what is left, and that it computes the same to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from eqnet.export.onnx.rules import CHANNELS_LAST, QUANTIZE_EARLY
from eqnet.export.onnx.rules.mean_of_codes import MeanOfCodes
from eqnet.export.onnx.rules.pad_into_conv import PadIntoConv
from eqnet.export.onnx.rules.rule import Rule, apply

NUMBERS = """
    float step = {0.25}, float other_step = {0.5}, uint8 zero = {100}, uint8 none = {0}, uint8 seven = {7},
    uint8 most = {201}, uint8 all = {255}, float low = {-3.1}, float high = {2.9}, float nothing = {0.0},
    int64[8] around = {0, 0, 1, 0, 0, 0, 2, 1}, int64[2] positions = {2, 3}, int64[2] flat = {0, -1},
    float[4, 1, 1, 1] weight = {1.0, -2.0, 0.5, 3.0}
"""

HEADER = '<ir_version: 10, opset_import: ["" : 21]> g (float[N, 2, 4, 5] x) => ({result} y) <{numbers}> {{ {body} }}'


@dataclass(frozen=True)
class Case:
    """A graph and what becomes of it.

    Attributes:
        body: from x to y, in ONNX's textual form.
        left: types of the operators afterwards, in their order.
        result: type of y.
        rules: that are applied.
    """

    body: str
    left: Sequence[str]
    result: str = "uint8[N, C, H, W]"
    rules: Sequence[type[Rule]] = QUANTIZE_EARLY


QUANTIZED = "QuantizeLinear({}, step, zero)"

CASES = {
    "ReLU with codes of negative numbers": Case(
        "r = Relu(x) y = QuantizeLinear(r, step, zero)", ["QuantizeLinear", "Clip"]
    ),
    "ReLU without them": Case("r = Relu(x) y = QuantizeLinear(r, step, none)", ["QuantizeLinear"]),
    "ReLU that something else reads": Case(
        "r = Relu(x) q = QuantizeLinear(r, step, zero) d = DequantizeLinear(q, step, zero) y = Add(r, d)",
        ["Relu", "QuantizeLinear", "DequantizeLinear", "Add"],
        "float[N, C, H, W]",
    ),
    "Clip": Case("c = Clip(x, low, high) y = QuantizeLinear(c, step, zero)", ["QuantizeLinear", "Clip"]),
    "Clip from below": Case("c = Clip(x, low) y = QuantizeLinear(c, step, none)", ["QuantizeLinear"]),
    "Clip from above": Case("c = Clip(x, , high) y = QuantizeLinear(c, step, zero)", ["QuantizeLinear", "Clip"]),
    "several bounds": Case(
        "c = Clip(x, low, high) r = Relu(c) q = QuantizeLinear(r, step, zero) y = Clip(q, seven, most)",
        ["QuantizeLinear", "Clip"],
    ),
    "bounds of a byte": Case("q = QuantizeLinear(x, step, zero) y = Clip(q, none, all)", ["QuantizeLinear"]),
    "bounds that leave one code": Case(
        "q = QuantizeLinear(x, step, zero) c = Clip(q, most, all) y = Clip(c, none, seven)", ["QuantizeLinear", "Clip"]
    ),
    "pooling": Case(
        "p = MaxPool<kernel_shape: ints = [3, 2], pads: ints = [1, 0, 1, 1], strides: ints = [2, 1]>(x) "
        "r = Relu(p) q = QuantizeLinear(r, step, zero) y = Clip(q, , most)",
        ["QuantizeLinear", "MaxPool", "Clip"],
    ),
    "moves": Case(
        "t = Transpose<perm: ints = [0, 2, 3, 1]>(x) f = Reshape(t, flat) y = QuantizeLinear(f, step, zero)",
        ["QuantizeLinear", "Transpose", "Reshape"],
        "uint8[N, M]",
    ),
    "padding with zeros": Case(
        "p = Pad(x, around) q = QuantizeLinear(p, step, zero) y = Clip(q, seven, most)",
        ["QuantizeLinear", "Clip", "Pad"],
    ),
    "padding with a number": Case(
        "p = Pad(x, around, low) y = QuantizeLinear(p, step, zero)", ["QuantizeLinear", "Pad"]
    ),
    "padding that is clipped": Case(
        "p = Pad(x, around, low) q = QuantizeLinear(p, step, zero) y = Clip(q, zero, most)",
        ["QuantizeLinear", "Pad", "Clip"],
    ),
    "reflection": Case(
        'p = Pad<mode: string = "reflect">(x, around) y = QuantizeLinear(p, step, zero)', ["QuantizeLinear", "Pad"]
    ),
    "concatenation": Case(
        "r = Relu(x) c = Concat<axis: int = 1>(x, r, x) y = QuantizeLinear(c, step, none)",
        ["QuantizeLinear", "QuantizeLinear", "QuantizeLinear", "Concat"],
    ),
    "codes made again": Case(
        "q = QuantizeLinear(x, step, zero) d = DequantizeLinear(q, step, zero) y = QuantizeLinear(d, step, zero)",
        ["QuantizeLinear"],
    ),
    "other codes": Case(
        "q = QuantizeLinear(x, step, zero) d = DequantizeLinear(q, step, zero) y = QuantizeLinear(d, other_step, zero)",
        ["QuantizeLinear", "DequantizeLinear", "QuantizeLinear"],
    ),
    "transposes that cancel out": Case(
        "a = Transpose<perm: ints = [0, 2, 3, 1]>(x) b = Relu(a) c = Mul(b, high) "
        "y = Transpose<perm: ints = [0, 3, 1, 2]>(c)",
        ["Relu", "Mul"],
        "float[N, C, H, W]",
        CHANNELS_LAST,
    ),
    "transposes that do not": Case(
        "a = Transpose<perm: ints = [0, 2, 3, 1]>(x) y = Transpose<perm: ints = [2, 0, 1, 3]>(a)",
        ["Transpose"],
        "float[A, B, C, D]",
        CHANNELS_LAST,
    ),
    "a sum of transposes": Case(
        "a = Transpose<perm: ints = [0, 2, 3, 1]>(x) b = Sigmoid(x) c = Transpose<perm: ints = [0, 2, 3, 1]>(b) "
        "d = Add(a, c) y = QuantizeLinear(d, step, zero)",
        ["Sigmoid", "Add", "QuantizeLinear", "Transpose"],
        "uint8[A, B, C, D]",
        CHANNELS_LAST,
    ),
    "a sum of different transposes": Case(
        "a = Transpose<perm: ints = [0, 2, 3, 1]>(x) m = ReduceMean(x, positions) "
        "b = Transpose<perm: ints = [0, 3, 2, 1]>(m) y = Add(a, b)",
        ["Transpose", "ReduceMean", "Transpose", "Add"],
        "float[A, B, C, D]",
        CHANNELS_LAST,
    ),
    "a mean of positions": Case(
        "a = Transpose<perm: ints = [0, 2, 3, 1]>(x) b = Relu(a) c = Transpose<perm: ints = [0, 3, 1, 2]>(b) "
        "y = ReduceMean<keepdims: int = 0>(c, positions)",
        ["Relu", "ReduceMean"],
        "float[N, C]",
        CHANNELS_LAST,
    ),
    "a mean that changes the order": Case(
        "a = Transpose<perm: ints = [3, 1, 0, 2]>(x) y = ReduceMean<keepdims: int = 0>(a, positions)",
        ["Transpose", "ReduceMean"],
        "float[A, B]",
        CHANNELS_LAST,
    ),
}


def _run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    (y,) = ort.InferenceSession(proto.SerializeToString(), options).run(None, {"x": x})
    return np.asarray(y)


def _model(case: Case) -> ir.Model:
    text = HEADER.format(result=case.result, numbers=NUMBERS, body=case.body.replace(") ", ")\n"))
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text)))


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_computes_the_same(name: str) -> None:
    case = CASES[name]
    x = np.arange(-24, 3 * 40 - 24, dtype=np.float32).reshape(3, 2, 4, 5) / 8  # ties are among them
    expected = _run(_model(case), x)
    model = _model(case)
    apply(model, case.rules)
    assert [node.op_type for node in model.graph if node.op_type != "Identity"] == list(case.left)
    found = _run(model, x)
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_mean_of_codes_becomes_a_pooling_of_them(keepdims: int) -> None:
    body = (
        "q = QuantizeLinear(x, step, zero) d = DequantizeLinear(q, step, zero) "
        f"m = ReduceMean<keepdims: int = {keepdims}>(d, positions) y = QuantizeLinear(m, other_step, zero)"
    )
    case = Case(body, ["QuantizeLinear", "DequantizeLinear", "GlobalAveragePool", "QuantizeLinear"], "uint8[N, C]")
    x = np.linspace(-9, 9, 80, dtype=np.float32).reshape(2, 2, 4, 5)
    expected = _run(_model(case), x)
    model = _model(case)
    apply(model, [MeanOfCodes])
    assert [node.op_type for node in model.graph][:4] == case.left
    assert np.array_equal(_run(model, x), expected)


@pytest.mark.parametrize(("value", "left"), [("zero", True), ("seven", False)])
def test_only_zeros_become_the_padding_of_a_convolution(value: str, left: bool) -> None:
    body = (
        f"q = QuantizeLinear(x, step, zero) p = Pad(q, around, {value}) d = DequantizeLinear(p, step, zero) "
        "y = Conv<group: int = 2, pads: ints = [0, 1, 0, 0]>(d, weight)"
    )
    case = Case(body, [], "float[N, C, H, W]")
    x = np.linspace(-9, 9, 80, dtype=np.float32).reshape(2, 2, 4, 5)
    expected = _run(_model(case), x)
    model = _model(case)
    PadIntoConv()(model)
    assert np.array_equal(_run(model, x), expected)
    conv = next(node for node in model.graph if node.op_type == "Conv")
    assert list(conv.attributes["pads"].as_ints()) == ([1, 1, 2, 1] if left else [0, 1, 0, 0])
