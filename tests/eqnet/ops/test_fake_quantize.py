"""Fake quantization against ONNX Runtime, PyTorch's own learned quantizer and arithmetic by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor

from eqnet.formats import Format
from eqnet.ops import fake_quantize
from eqnet.ops.fake_quantize import _fake_quantize_backward_reference, _fake_quantize_reference

ROWS, COLS, GROUP = 6, 10, 4  # the last group of a row is short

FORMATS = [
    Format.parse(f"{sign}int{bits}:{granularity}")
    for bits, granularity, sign in product(range(2, 9), ("tensor", "channel", f"group{GROUP}"), ("", "u"))
]
BY_NAME = pytest.mark.parametrize("fmt", FORMATS, ids=str)

SUM_TOLERANCE = 2e-5
"""Relative to the sum of magnitudes: float32 sums of some thousand terms, in another order."""


def parameters(fmt: Format, generator: torch.Generator, *, exact: bool = False) -> tuple[Tensor, Tensor]:
    """Scales and integer zero points; ``exact`` ones are powers of two, which divide without rounding."""
    shape = fmt.scale_shape(ROWS, COLS)
    scale = torch.rand(shape, generator=generator) + 0.1
    zero_point = torch.randint(fmt.qmin, fmt.qmax + 1, shape, generator=generator).float()
    return (
        torch.exp2(torch.floor(torch.log2(scale))) if exact else scale,
        torch.zeros(shape) if fmt.symmetric else zero_point,
    )


def values(fmt: Format, scale: Tensor, zero_point: Tensor, generator: torch.Generator) -> Tensor:
    """A [ROWS, COLS] matrix over one and a half times the range of each group, so that some values clip."""
    wide = 0.75 * (fmt.qmax - fmt.qmin + 1) * scale
    middle = ((fmt.qmin + fmt.qmax) / 2 - zero_point) * scale
    size = fmt.group_size or COLS
    spread = wide.repeat_interleave(size, 1)[:, :COLS], middle.repeat_interleave(size, 1)[:, :COLS]
    return (2 * torch.rand(ROWS, COLS, generator=generator) - 1) * spread[0] + spread[1]


def apply(x: Tensor, scale: Tensor, zero_point: Tensor, fmt: Format) -> Tensor:
    return fake_quantize(x, scale, zero_point, fmt.group_size or max(x.numel() // len(scale), 1), fmt.qmin, fmt.qmax)


def through_onnx(x: NDArray[np.float32], scale: Tensor, zero_point: Tensor, fmt: Format) -> NDArray[np.float32]:
    """QuantizeLinear → DequantizeLinear in the format's own type; with Clip between in the next wider one."""
    stored = next(width for width in (2, 4, 8) if width >= fmt.bits)
    kind = getattr(TensorProto, f"{'' if fmt.symmetric else 'U'}INT{8 if stored != fmt.bits else stored}")
    layout: dict[str, int] = {}
    shape: tuple[int, ...] = ()
    if fmt.granularity.value == "channel":
        layout, shape = {"axis": 0}, (ROWS,)
    elif fmt.granularity.value == "group":
        layout, shape = {"axis": 1, "block_size": GROUP}, tuple(scale.shape)
    codes = "codes"
    nodes = [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"], **layout)]
    if stored != fmt.bits:
        nodes.append(helper.make_node("Clip", ["codes", "qmin", "qmax"], ["clipped"]))
        codes = "clipped"
    nodes.append(helper.make_node("DequantizeLinear", [codes, "scale", "zero"], ["y"], **layout))
    zeros = [int(v) for v in zero_point.flatten()]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "fake_quantize",
            [
                helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape),
                helper.make_tensor_value_info("scale", TensorProto.FLOAT, shape),
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, x.shape)],
            [
                helper.make_tensor("zero", kind, shape, zeros),
                helper.make_tensor("qmin", kind, (), [fmt.qmin]),
                helper.make_tensor("qmax", kind, (), [fmt.qmax]),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 25)],
        ir_version=onnx.IR_VERSION if onnx.IR_VERSION < 13 else 13,
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(None, {"x": x, "scale": scale.reshape(shape).numpy()})[0]
    return result


@BY_NAME
@pytest.mark.parametrize("exact", [False, True], ids=["any scale", "power of two"])
def test_forward_is_onnx_quantize_then_dequantize(fmt: Format, exact: bool, generator: torch.Generator) -> None:
    scale, zero_point = parameters(fmt, generator, exact=exact)
    x = values(fmt, scale, zero_point, generator)
    if exact:  # on the grid of half steps, every second value is a tie
        step = scale.repeat_interleave(fmt.group_size or COLS, 1)[:, :COLS] / 2
        x = (x / step).round() * step
    expected = through_onnx(x.numpy(), scale, zero_point, fmt)
    np.testing.assert_array_equal(apply(x, scale, zero_point, fmt).numpy(), expected)


@BY_NAME
def test_forward_is_the_arithmetic_by_hand(fmt: Format, generator: torch.Generator, by_hand) -> None:
    scale, zero_point = parameters(fmt, generator)
    zero_point = zero_point + 0.0 if fmt.symmetric else zero_point + 0.3  # rounded by the op
    x = values(fmt, scale, zero_point, generator)
    expected = by_hand(x.numpy(), fmt, scale.numpy(), zero_point.numpy())
    np.testing.assert_array_equal(apply(x, scale, zero_point, fmt).numpy(), expected)


@pytest.mark.parametrize("fmt", [f for f in FORMATS if f.granularity.value == "tensor"], ids=str)
def test_forward_is_torch_fake_quantize_away_from_ties(fmt: Format, generator: torch.Generator) -> None:
    scale, zero_point = parameters(fmt, generator, exact=True)
    x = values(fmt, scale, zero_point, generator)
    expected = torch.fake_quantize_per_tensor_affine(x, scale.item(), int(zero_point.item()), fmt.qmin, fmt.qmax)
    assert torch.equal(apply(x, scale, zero_point, fmt), expected)


def test_ties_round_to_even() -> None:
    x = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5])
    y = fake_quantize(x, torch.ones(1, 1), torch.zeros(1, 1), 7, -8, 7)
    assert y.tolist() == [-2, -2, 0, 0, 2, 2, 4]


@pytest.mark.parametrize("wanted", [-7.6, 300.2, 0.5, 1.5], ids=str)
def test_a_learned_zero_point_becomes_an_integer_code(wanted: float) -> None:
    x = torch.linspace(-300, 300, 77)
    learned = fake_quantize(x, torch.ones(1, 1), torch.tensor([[wanted]]), 77, 0, 255)
    integer = {-7.6: 0, 300.2: 255, 0.5: 0, 1.5: 2}[wanted]
    assert torch.equal(learned, fake_quantize(x, torch.ones(1, 1), torch.tensor([[float(integer)]]), 77, 0, 255))


@pytest.mark.parametrize("op", [torch.ops.eqnet.fake_quantize, _fake_quantize_reference], ids=["C++", "torch"])
def test_nan_stays_and_infinity_saturates(op) -> None:
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 1.0] * 9)  # longer than a vector register
    y = op(x, torch.full((1, 1), 0.5), torch.full((1, 1), 3.0), 36, 0, 15)
    np.testing.assert_array_equal(y.numpy(), np.tile(np.float32([np.nan, 6, -1.5, 1]), 9))


SHAPES = {
    "one element": (1, 1, 1),
    "odd": (7, 13, 5),
    "one group": (3, 8, 8),
    "group longer than the row": (3, 8, 100),
    "groups of one": (2, 5, 1),
    "one column": (5, 1, 1),
    "longer than a thread's share": (1, 70001, 70001),
    "many long rows": (3, 20000, 16500),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_kernel_agrees_with_plain_torch(shape: tuple[int, int, int], generator: torch.Generator) -> None:
    rows, cols, group = shape
    groups = -(-cols // group)
    x, grad = torch.randn(2, rows, cols, generator=generator)
    scale = torch.rand(rows, groups, generator=generator) * 0.2 + 0.05
    zero_point = torch.rand(rows, groups, generator=generator) * 15
    arguments = x, scale, zero_point, group, 0, 15
    assert torch.equal(fake_quantize(*arguments), _fake_quantize_reference(*arguments))
    ours = torch.ops.eqnet.fake_quantize_backward(grad, *arguments)
    plain = _fake_quantize_backward_reference(grad, *arguments)
    assert torch.equal(ours[0], plain[0])
    for mine, theirs, largest in zip(ours[1:], plain[1:], (grad.abs() * 15, grad.abs() * scale.max()), strict=True):
        bound = SUM_TOLERANCE * largest.sum().item()
        torch.testing.assert_close(mine, theirs, rtol=0, atol=bound)


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (0,)], ids=str)
def test_nothing_gives_nothing(shape: tuple[int, ...]) -> None:
    x = torch.empty(shape, requires_grad=True)
    rows = shape[0] if len(shape) == 2 else 1
    scale, zero_point = (torch.ones(rows, 1, requires_grad=True) for _ in range(2))
    y = fake_quantize(x, scale, zero_point, 4, 0, 15)
    assert y.shape == x.shape
    y.sum().backward()
    for parameter in (scale, zero_point):
        assert torch.equal(parameter.grad, torch.zeros(rows, 1))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.permute(0, 2, 3, 1),
        lambda x: x[:, ::2],
        lambda x: x.to(memory_format=torch.channels_last),
        lambda x: x.expand(3, *x.shape)[1],
    ],
    ids=["permuted", "strided", "channels last", "expanded"],
)
def test_the_layout_in_memory_does_not_matter(view, generator: torch.Generator) -> None:
    x = view(torch.randn(4, 6, 3, 5, generator=generator))
    scale, zero_point = torch.rand(4, 1, generator=generator) + 0.1, torch.zeros(4, 1)
    y = fake_quantize(x, scale, zero_point, x[0].numel(), -8, 7)
    assert torch.equal(
        y, fake_quantize(x.clone(memory_format=torch.contiguous_format), scale, zero_point, x[0].numel(), -8, 7)
    )


@pytest.mark.parametrize("scales", [1, 3], ids=["one scale", "a scale a row"])
def test_channels_last_stays_so_where_one_scale_serves_all(scales: int, generator: torch.Generator) -> None:
    x, grad = torch.randn(2, 3, 4, 5, 6, generator=generator)
    arguments = torch.full((scales, 1), 0.1), torch.full((scales, 1), 7.0), x.numel() // scales, 0, 15
    expected = [fake_quantize(x, *arguments), *torch.ops.eqnet.fake_quantize_backward(grad, x, *arguments)]
    x, grad = (t.contiguous(memory_format=torch.channels_last) for t in (x, grad))
    found = [fake_quantize(x, *arguments), *torch.ops.eqnet.fake_quantize_backward(grad, x, *arguments)]
    order = torch.channels_last if scales == 1 else torch.contiguous_format
    assert all(t.is_contiguous(memory_format=order) for t in found[:2])
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=SUM_TOLERANCE * 15 * grad.abs().sum().item())
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    torch.library.opcheck(torch.ops.eqnet.fake_quantize.default, (x.requires_grad_(), *arguments))
    torch.library.opcheck(torch.ops.eqnet.fake_quantize_backward.default, (grad, x.detach(), *arguments))


@pytest.mark.parametrize("fmt", [f for f in FORMATS if f.granularity.value == "tensor"], ids=str)
def test_gradients_are_those_of_torch_per_tensor(fmt: Format, generator: torch.Generator) -> None:
    scale, zero_point = parameters(fmt, generator)
    x = values(fmt, scale, zero_point, generator)
    grad = torch.randn(x.shape, generator=generator)
    theirs = [t.clone().requires_grad_() for t in (x, scale.flatten(), zero_point.flatten())]
    torch._fake_quantize_learnable_per_tensor_affine(*theirs, fmt.qmin, fmt.qmax, 1.0).backward(grad)
    compare_gradients(x, scale, zero_point, fmt, grad, [t.grad for t in theirs])


@pytest.mark.parametrize("fmt", [f for f in FORMATS if f.granularity.value == "channel"], ids=str)
def test_gradients_are_those_of_torch_per_channel(fmt: Format, generator: torch.Generator) -> None:
    scale, zero_point = parameters(fmt, generator)
    x = values(fmt, scale, zero_point, generator)
    grad = torch.randn(x.shape, generator=generator)
    theirs = [t.clone().requires_grad_() for t in (x, scale.flatten(), zero_point.flatten())]
    torch._fake_quantize_learnable_per_channel_affine(*theirs, 0, fmt.qmin, fmt.qmax, 1.0).backward(grad)
    compare_gradients(x, scale, zero_point, fmt, grad, [t.grad for t in theirs])


@pytest.mark.parametrize("fmt", [f for f in FORMATS if f.granularity.value == "group"], ids=str)
def test_gradients_are_the_formulas_of_lsq_per_group(fmt: Format, generator: torch.Generator) -> None:
    scale, zero_point = parameters(fmt, generator)
    x = values(fmt, scale, zero_point, generator)
    grad = torch.randn(x.shape, generator=generator)
    grad_x, grad_scale, grad_zero = np.zeros(x.shape), np.zeros(scale.shape), np.zeros(scale.shape)
    for i, j in product(range(ROWS), range(COLS)):
        s, z, g = scale[i, j // GROUP].item(), zero_point[i, j // GROUP].item(), grad[i, j].item()
        v = (x[i, j] / scale[i, j // GROUP]).item()
        if round(v) + z < fmt.qmin or round(v) + z > fmt.qmax:
            grad_scale[i, j // GROUP] += g * ((fmt.qmin if round(v) + z < fmt.qmin else fmt.qmax) - z)
            grad_zero[i, j // GROUP] += -s * g
        else:
            grad_x[i, j] = g
            grad_scale[i, j // GROUP] += g * (round(v) - v)
    expected = [torch.tensor(t, dtype=torch.float32) for t in (grad_x, grad_scale, grad_zero)]
    compare_gradients(x, scale, zero_point, fmt, grad, expected)


def compare_gradients(
    x: Tensor, scale: Tensor, zero_point: Tensor, fmt: Format, grad: Tensor, expected: list[Tensor]
) -> None:
    ours = [t.clone().requires_grad_() for t in (x, scale, zero_point)]
    apply(*ours, fmt).backward(grad)
    assert torch.equal(ours[0].grad, expected[0])
    codes = fmt.qmax - fmt.qmin + 1
    for mine, theirs, largest in zip(ours[1:], expected[1:], (codes, scale.max().item()), strict=True):
        bound = SUM_TOLERANCE * largest * grad.abs().sum().item()
        torch.testing.assert_close(mine.grad.flatten(), theirs.flatten(), rtol=0, atol=bound)


@pytest.mark.parametrize("group", [300_000, 777], ids=["one group", "many groups"])
def test_results_do_not_depend_on_the_number_of_threads(group: int, generator: torch.Generator) -> None:
    x, grad = torch.randn(2, 1, 300_000, generator=generator)
    groups = -(-x.numel() // group)
    arguments = x, torch.full((1, groups), 0.1), torch.full((1, groups), 7.0), group, 0, 15
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append([fake_quantize(*arguments), *torch.ops.eqnet.fake_quantize_backward(grad, *arguments)])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_the_ops_keep_the_rules_of_torch_library(generator: torch.Generator) -> None:
    x = torch.randn(4, 6, 2, generator=generator).transpose(1, 2).requires_grad_()
    scale = torch.rand(4, 3, generator=generator).add(0.1).requires_grad_()
    zero_point = torch.full((4, 3), 3.0, requires_grad=True)
    torch.library.opcheck(torch.ops.eqnet.fake_quantize.default, (x, scale, zero_point, 5, 0, 7))
    plain = [t.detach() for t in (x, x, scale, zero_point)]
    torch.library.opcheck(torch.ops.eqnet.fake_quantize_backward.default, (*plain, 5, 0, 7))


@pytest.mark.parametrize(
    ("x", "scale", "zero_point", "group"),
    [
        ((4, 6), (5, 1), (5, 1), 6),
        ((4, 6), (4, 2), (4, 2), 2),
        ((4, 6), (4, 1), (1, 1), 6),
        ((4, 6), (4,), (4,), 6),
        ((4, 6), (4, 1), (4, 1), 0),
    ],
    ids=["rows", "groups", "zero point", "dimensions", "no group"],
)
def test_shapes_that_do_not_fit_are_refused(x, scale, zero_point, group: int) -> None:
    with pytest.raises(ValueError, match="fake_quantize"):
        fake_quantize(torch.ones(x), torch.ones(scale), torch.zeros(zero_point), group, 0, 15)


def test_another_dtype_is_refused() -> None:
    with pytest.raises(TypeError, match="float64"):
        fake_quantize(torch.ones(2, 2).double(), torch.ones(1, 1), torch.zeros(1, 1), 4, 0, 15)
