"""How pooling, padding and changes of shape are lowered."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from eqnet.runtime.builder import Pool
from eqnet.runtime.convolution import Padding, pair
from eqnet.runtime.lowering import BOUNDED, Lowering, activation_bounds, argument, lowers
from eqnet.runtime.tracing import key

_POOLS = (nn.MaxPool2d, "max_pool2d", nn.AvgPool2d, "avg_pool2d")
_GLOBAL = (nn.AdaptiveAvgPool2d, "adaptive_avg_pool2d", nn.AdaptiveMaxPool2d, "adaptive_max_pool2d", "mean")
BOUNDED.update((*_POOLS, *_GLOBAL))


def _source(lowering: Lowering, node: fx.Node, dimensions: tuple[int, ...] = (4,)) -> tuple[int, tuple[int, ...]]:
    """The value and the shape of what ``node`` reads."""
    value = lowering.value(node.args[0] if node.args else None, node)
    shape = tuple(node.args[0].meta["shape"])  # type: ignore[union-attr]  # a node, as it has a value
    if len(shape) not in dimensions:
        raise lowering.unsupported(node, f"its input has the shape {shape}")
    return value, shape


def _option(lowering: Lowering, node: fx.Node, position: int, name: str, default: Any) -> Any:
    """An argument of a function, or the attribute of the module that stands for it."""
    if node.op == "call_module":
        return getattr(lowering.module(node), name, default)
    return argument(node, position, name, default)


def _is_maximum(lowering: Lowering, node: fx.Node) -> bool:
    kind = key(lowering.traced, node)
    return "max" in (kind.__name__ if isinstance(kind, type) else str(kind)).lower()


@lowers(*_POOLS)
def _pool(lowering: Lowering, node: fx.Node) -> int:
    value, _ = _source(lowering, node)
    maximum = _is_maximum(lowering, node)

    def option(position: int, name: str, default: Any) -> Any:
        return _option(lowering, node, position, name, default)

    kernel = pair(option(1, "kernel_size", None))
    stride = pair(option(2, "stride", None) or kernel)
    height, width = pair(option(3, "padding", 0))
    dilation = pair(option(4, "dilation", 1)) if maximum else (1, 1)
    ceil = option(5 if maximum else 4, "ceil_mode", False)
    indices = option(6, "return_indices", False) if maximum else False
    divisor = None if maximum else option(6, "divisor_override", None)
    if dilation != (1, 1) or ceil or indices or divisor is not None:
        raise lowering.unsupported(node, "only pooling without dilation, ceil_mode, indices and divisor is there")
    pool = Pool(
        maximum=maximum,
        whole_image=False,
        kernel=kernel,
        stride=stride,
        padding=(height, width, height, width),
        count_padding=bool(option(5, "count_include_pad", True)) if not maximum else False,
    )
    return lowering.builder.pool(value, pool, lowering.bounds(node))


@lowers(*_GLOBAL)
def _global_pool(lowering: Lowering, node: fx.Node) -> int:
    value, _ = _source(lowering, node)
    if key(lowering.traced, node) == "mean":
        axes = argument(node, 1, "dim", ())
        axes = (axes,) if isinstance(axes, int) else tuple(axes)
        if sorted(axis % 4 for axis in axes) != [2, 3] or node.kwargs.get("dtype") is not None:
            raise lowering.unsupported(node, f"only the mean of whole images is there, not over {axes}")
    else:
        size = _option(lowering, node, 1, "output_size", None)
        if size not in (1, (1, 1), [1, 1]) or _option(lowering, node, 2, "return_indices", False):
            raise lowering.unsupported(node, f"only pooling of whole images is there, not to {size}")
    pool = Pool(maximum=_is_maximum(lowering, node), whole_image=True)
    return lowering.builder.pool(value, pool, lowering.bounds(node))


@lowers(nn.Flatten, "flatten", "view", "reshape", "squeeze")
def _flatten(lowering: Lowering, node: fx.Node) -> int:
    value, shape = _source(lowering, node, (2, 4))
    result = node.meta["shape"]
    if result == shape:
        return value
    inputs = 1
    for size in shape[1:]:
        inputs *= size
    if result != (shape[0], inputs):
        raise lowering.unsupported(node, f"it turns {shape} into {result}; images can only become vectors")
    source = node.args[0]
    if isinstance(source, fx.Node) and _is_global_pool(lowering, source):
        return value
    return lowering.builder.flatten(value)


def _is_global_pool(lowering: Lowering, node: fx.Node) -> bool:
    """Whether its images have one pixel whatever the size of the network's input, through activations too."""
    while activation_bounds(lowering, node) is not None and isinstance(node.args[0], fx.Node):
        node = node.args[0]
    return key(lowering.traced, node) in _GLOBAL


@lowers("cat", "concat", "concatenate")
def _concatenate(lowering: Lowering, node: fx.Node) -> int:
    parts = node.args[0]
    if not isinstance(parts, list | tuple) or argument(node, 1, "dim", 0) not in (1, 1 - len(node.meta["shape"])):
        raise lowering.unsupported(node, "only channels can be concatenated")
    return lowering.builder.concatenate([lowering.value(part, node) for part in parts])


@lowers(nn.ZeroPad2d, nn.ConstantPad2d, "pad")
def _pad(lowering: Lowering, node: fx.Node) -> int:
    value, _ = _source(lowering, node)
    if node.op == "call_module":
        module = lowering.module(node)
        sizes, mode, number = module.padding, "constant", getattr(module, "value", 0)
    else:
        sizes, mode, number = (
            argument(node, i, name, default)
            for i, name, default in ((1, "pad", ()), (2, "mode", "constant"), (3, "value", 0))
        )
    sizes = tuple(int(size) for size in (*sizes, 0, 0, 0, 0)[:4]) if len(sizes) <= 4 else ()
    if len(sizes) != 4 or min(sizes) < 0 or mode != "constant" or number not in (0, None):
        raise lowering.unsupported(node, "images can only be padded with zeros around them")
    left, right, top, bottom = sizes
    padding: Padding = (top, left, bottom, right)
    if any(padding):
        lowering.padding[node] = padding
    return value
