"""From the operations of a traced model to those of a program."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import fx, nn

from eqnet.packed.layers import PackedConv2d, PackedLinear
from eqnet.runtime.builder import Bounds, Builder
from eqnet.runtime.convolution import Padding, Parameters, convolution_parameters, linear_parameters
from eqnet.runtime.tracing import key
from eqnet.runtime.unsupported import UnsupportedError

UNBOUNDED: Bounds = (-math.inf, math.inf)
NO_PADDING: Padding = (0, 0, 0, 0)

_ADDITIONS = ("add", "add_", "iadd")

Lower = Callable[["Lowering", fx.Node], int]
LOWERS: dict[Any, Lower] = {}
"""What an operation becomes, by what ``key`` gives; each adds to the program and returns the value there."""


def lowers(*keys: Any) -> Callable[[Lower], Lower]:
    """Registers how the operations ``keys`` are lowered."""

    def register(function: Lower) -> Lower:
        LOWERS.update(dict.fromkeys(keys, function))
        return function

    return register


class Lowering:
    """A program in the making.

    Args:
        traced: what ``trace`` gave.
        builder: told all operations.

    Attributes:
        builder: as given.
        values: the value in the program of each operation so far.
        padding: zeros around values, top, left, bottom and right, which whoever reads them still has to add.
    """

    def __init__(self, traced: fx.GraphModule, builder: Builder) -> None:
        self.traced = traced
        self.builder = builder
        self.values: dict[fx.Node, int] = {}
        self.padding: dict[fx.Node, Padding] = {}
        self._bounds: dict[fx.Node, Bounds] = {}  # of activations that follow, and have been taken into their input
        self._deferred: set[fx.Node] = set()  # layers whose result is added to another one's, as part of that sum

    def run(self) -> fx.Node:
        """Lowers all operations. Returns the one whose value is the result.

        Raises:
            UnsupportedError: an operation has no integer form.
        """
        self._defer_summands()
        for node in self.traced.graph.nodes:
            if node.op == "placeholder":
                self.values[node] = 0
            elif node.op == "output":
                return self._finish(node)
            elif node.meta["shape"] is None or node in self.values or node in self._deferred:
                continue  # no tensor, such as a batch size, or part of another operation
            else:
                self._lower(node)
        raise AssertionError("every graph has an output")

    def _finish(self, node: fx.Node) -> fx.Node:
        result = node.args[0]
        if not isinstance(result, fx.Node) or result not in self.values or result in self.padding:
            raise UnsupportedError(f"the model returns {node.args[0]}; integer programs return one tensor")
        self.builder.finish(self.values[result])
        return result

    def _lower(self, node: fx.Node) -> None:
        kind = key(self.traced, node)
        if kind not in LOWERS:
            raise self.unsupported(node, "integer programs have no such operation")
        last, self._bounds[node] = self._following_activations(node)
        value = LOWERS[kind](self, node)
        while node is not last:
            self.values[node] = value
            node = next(iter(node.users))
        self.values[last] = value
        if isinstance(source := node.args[0], fx.Node) and node in self.padding and source in self.padding:
            raise self.unsupported(node, "it pads what is padded already")

    def _following_activations(self, node: fx.Node) -> tuple[fx.Node, Bounds]:
        """The last of the activations that alone read ``node`` and each other, and what they leave."""
        bounds = UNBOUNDED
        if activation_bounds(self, node) is not None or key(self.traced, node) not in BOUNDED:
            return node, bounds
        while len(node.users) == 1 and (found := activation_bounds(self, next(iter(node.users)))) is not None:
            low, high = (min(max(bound, found[0]), found[1]) for bound in bounds)
            node, bounds = next(iter(node.users)), (low, high)
        return node, bounds

    def _defer_summands(self) -> None:
        order = {node: i for i, node in enumerate(self.traced.graph.nodes)}
        for node in self.traced.graph.nodes:
            if key(self.traced, node) in _ADDITIONS and len(node.args) == 2 and not node.kwargs:
                layers = [x for x in node.args if isinstance(x, fx.Node) and self._is_layer(x) and len(x.users) == 1]
                same_shape = len({x.meta["shape"] if isinstance(x, fx.Node) else None for x in node.args}) == 1
                if layers and same_shape and node.args[0] is not node.args[1]:
                    self._deferred.add(max(layers, key=lambda x: order[x]))

    def _is_layer(self, node: fx.Node) -> bool:
        return key(self.traced, node) in (PackedConv2d, PackedLinear)

    def bounds(self, node: fx.Node) -> Bounds:
        """What the activations that follow ``node`` leave."""
        return self._bounds[node]

    def value(self, node: Any, reader: fx.Node) -> int:
        """The value of an argument of ``reader``, one that needs no padding."""
        if not isinstance(node, fx.Node) or node not in self.values:
            raise self.unsupported(reader, f"expected a result of the network as its input; found {node}")
        if node in self.padding:
            raise self.unsupported(reader, "only convolutions read padded images")
        return self.values[node]

    def layer(self, node: fx.Node, residual: int, bounds: Bounds) -> int:
        """Adds the convolution or linear layer ``node``."""
        layer = self.module(node)
        source = node.args[0] if node.args else next(iter(node.kwargs.values()))
        if not isinstance(source, fx.Node) or source not in self.values:
            raise self.unsupported(node, f"expected a result of the network as its input; found {source}")
        padding = self.padding.get(source, NO_PADDING)
        shape = source.meta["shape"]
        if isinstance(layer, PackedConv2d) and len(shape) == 4:
            parameters = convolution_parameters(layer, padding)
        elif isinstance(layer, PackedLinear) and len(shape) == 2:
            parameters = linear_parameters(layer)
        else:
            raise self.unsupported(node, f"its input has the shape {shape}")
        return self.convolution(node, self.values[source], parameters, residual, bounds)

    def convolution(self, node: fx.Node, x: int, parameters: Parameters, residual: int, bounds: Bounds) -> int:
        """Adds a convolution of given parameters to the program."""
        try:
            return self.builder.convolution(x, parameters, residual, bounds)
        except ValueError as e:
            raise self.unsupported(node, str(e)) from e

    def module(self, node: fx.Node) -> Any:
        """The module that ``node`` calls."""
        return self.traced.get_submodule(str(node.target))

    def is_deferred(self, node: Any) -> bool:
        """Whether ``node`` is a layer that is computed as part of the sum that reads it."""
        return node in self._deferred

    def unsupported(self, node: fx.Node, reason: str) -> UnsupportedError:
        """The error that names ``node``."""
        kind = key(self.traced, node)
        name = kind.__name__ if isinstance(kind, type) else str(kind)
        where = f"layer '{node.target}'" if node.op == "call_module" else f"operation '{node.name}'"
        return UnsupportedError(f"{where} ({name}): {reason}; run the model layer by layer instead")


def argument(node: fx.Node, position: int, name: str, default: Any) -> Any:
    """An argument of the function or method that ``node`` calls."""
    if len(node.args) > position:
        return node.args[position]
    return node.kwargs.get(name, default)


def activation_bounds(lowering: Lowering, node: fx.Node) -> Bounds | None:
    """What ``node`` leaves of its input, if it is an activation that clips; None if it is anything else."""
    kind = key(lowering.traced, node)
    if kind in (nn.ReLU, "relu", "relu_"):
        return 0.0, math.inf
    if kind in (nn.ReLU6, "relu6"):
        return 0.0, 6.0
    if kind is nn.Hardtanh:
        module = lowering.module(node)
        return float(module.min_val), float(module.max_val)
    defaults = {"hardtanh": (-1.0, 1.0), "hardtanh_": (-1.0, 1.0), "clamp": UNBOUNDED, "clamp_": UNBOUNDED}
    if kind not in defaults:
        return None
    names = ("min_val", "max_val") if kind.startswith("hardtanh") else ("min", "max")
    low, high = (argument(node, i + 1, name, None) for i, name in enumerate(names))
    low, high = (d if given is None else given for given, d in zip((low, high), defaults[kind], strict=True))
    if isinstance(low, int | float) and isinstance(high, int | float) and low <= high:
        return float(low), float(high)
    return None


BOUNDED: set[Any] = {PackedConv2d, PackedLinear, *_ADDITIONS}
"""Operations that take the activation that follows them into themselves; others register here."""


@lowers(PackedConv2d, PackedLinear)
def _layer(lowering: Lowering, node: fx.Node) -> int:
    return lowering.layer(node, -1, lowering.bounds(node))


@lowers(*_ADDITIONS)
def _add(lowering: Lowering, node: fx.Node) -> int:
    operands = list(node.args)
    if len(operands) != 2 or node.kwargs or not all(isinstance(x, fx.Node) for x in operands):
        raise lowering.unsupported(node, "only two results of the network can be added")
    shapes = {x.meta["shape"] for x in operands if isinstance(x, fx.Node)}
    if len(shapes) != 1:
        raise lowering.unsupported(node, f"only images of one size can be added; found {sorted(shapes, key=str)}")
    for layer, other in (operands, operands[::-1]):
        if isinstance(layer, fx.Node) and lowering.is_deferred(layer):
            return lowering.layer(layer, lowering.value(other, node), lowering.bounds(node))
    a, b = (lowering.value(x, node) for x in operands)
    return lowering.builder.add(a, b, lowering.bounds(node))


@lowers(nn.ReLU, "relu", "relu_", nn.ReLU6, "relu6", nn.Hardtanh, "hardtanh", "hardtanh_", "clamp", "clamp_")
def _activation(lowering: Lowering, node: fx.Node) -> int:
    bounds = activation_bounds(lowering, node)
    if bounds is None:
        raise lowering.unsupported(node, "its bounds are no numbers")
    return lowering.builder.bound(lowering.value(node.args[0], node), bounds)
