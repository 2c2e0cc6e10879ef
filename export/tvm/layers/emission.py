"""Packed layers as expressions of Relax; one row a kind of layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import relax

from eqnet.errors import ModelError
from eqnet.export.tvm.layers import computing
from eqnet.export.tvm.layers.geometry import Geometry
from eqnet.export.tvm.layers.linear import LANES, Linear
from eqnet.export.tvm.layers.panels import Panels
from eqnet.packed.layers import PackedConv, PackedConvTranspose, PackedEmbedding, PackedLayer, PackedLinear

Expr = Any
"""An expression of Relax."""

OPAQUE = 8
"""The pattern of functions that nothing is fused with."""


@dataclass
class Emitter:
    """Writes packed layers into a function of Relax that is being built.

    What layers share, such as tied embeddings, is stored once for each number of lanes.

    Attributes:
        builder: of the function.
        style: how layers are computed.
    """

    builder: Any
    style: Style
    _panels: dict[tuple[int, int], tuple[Panels, list[Expr]]] = field(default_factory=dict)
    _functions: dict[Hashable, Any] = field(default_factory=dict)

    def layer(self, layer: PackedLayer, x: Expr) -> Expr:
        """The result of a layer, in the type of its input."""
        if not layer.rows * layer.cols:
            raise ModelError(f"layer '{layer.path}' has no weights ({layer.rows} × {layer.cols}); leave it out")
        return next(emit for kind, emit in _LAYERS.items() if isinstance(layer, kind))(self, layer, x)

    def weight(self, layer: PackedLayer) -> Expr:
        """The weight of a layer in floating point, in torch's layout."""
        panels, constants = self.panels(layer, self._shared_lanes(layer))
        flat = self.computed("matrix", lambda *arrays: computing.matrix(panels, *arrays), *constants)
        if not isinstance(layer, PackedConvTranspose):
            return self.reshaped(flat, layer.shape)
        inputs, outputs = layer.shape[0] // layer.groups, layer.shape[1]
        split = self.reshaped(flat, (layer.groups, outputs, inputs, math.prod(layer.kernel_size)))
        return self.reshaped(self.builder.emit(relax.op.permute_dims(split, (0, 2, 1, 3))), layer.shape)

    def panels(self, layer: PackedLayer, lanes: int) -> tuple[Panels, list[Expr]]:
        """The weight of a layer, and its arrays as constants."""
        key = id(layer.codes), lanes
        if key not in self._panels:
            panels = Panels.of(layer.weight, lanes)
            self._panels[key] = panels, [relax.const(array) for array in panels.arrays]
        return self._panels[key]

    def scaled(self, layer: PackedLayer, lanes: int, factor: float | None) -> tuple[Panels, list[Expr]]:
        """The same, with scales times ``factor``."""
        panels, constants = self.panels(layer, lanes)
        if factor is None:
            return panels, constants
        at = len(panels.planes)
        return panels, [*constants[:at], relax.const(panels.scale * np.float32(factor)), *constants[at + 1 :]]

    def computed(self, name: str, compute: Callable[..., Any], *args: Expr) -> Expr:
        """The result of a tensor expression, as a function of that name."""
        return self.builder.emit_te(compute, *args, primfunc_name_hint=name)

    def called(self, key: Hashable, make: Callable[[], Any], args: list[Expr], shape: tuple[Any, ...]) -> Expr:
        """The result, float32, of a TIR function whose last argument it is; equal keys are of equal functions."""
        if key not in self._functions:
            function = make().with_attr("op_pattern", OPAQUE).with_attr("tirx.is_scheduled", True)
            self._functions[key] = self.builder.add_func(function, "product")
        call = relax.call_tir(self._functions[key], args, out_ty=relax.TensorType(shape, "float32"))
        return self.builder.emit(call)

    def reshaped(self, x: Expr, shape: tuple[Any, ...]) -> Expr:
        """``x`` in another shape."""
        return self.builder.emit(relax.op.reshape(x, shape))

    def cast(self, x: Expr, dtype: str) -> Expr:
        """``x`` in another type."""
        return x if dtype_of(x) == dtype else self.builder.emit(relax.op.astype(x, dtype))

    def input(self, layer: PackedLayer, x: Expr) -> tuple[Expr, float | None]:
        """The input as products take it, and what its integers are multiples of; None if it is floating point."""
        x = self.cast(x, "float32")
        if layer.input_format is None or layer.input_scale is None or layer.input_zero_point is None:
            return x, None
        scale, zero, fmt = layer.input_scale.item(), int(layer.input_zero_point.item()), layer.input_format
        return self.computed("quantize", lambda t: computing.codes(t, fmt, scale, zero), x), scale

    def _shared_lanes(self, layer: PackedLayer) -> int:
        """Those in which the weight is there already, if it is."""
        return LANES if (id(layer.codes), LANES) in self._panels else 1


Product = Callable[["Emitter", PackedLayer, Expr, "float | None"], Expr]
"""From float32 [N, cols], or int16 and what the integers are multiples of, to float32 [N, rows]."""


@dataclass(frozen=True)
class Style:
    """How layers are computed.

    Attributes:
        linear: a packed linear layer.
        product: of convolutions of one group, as products of gathered inputs; None to take them directly.
    """

    linear: Callable[[Emitter, PackedLayer, Expr], Expr]
    product: Product | None


def tir_product(emitter: Emitter, layer: PackedLayer, x: Expr, input_scale: float | None) -> Expr:
    """A product by the function for CPUs."""
    panels, constants = emitter.scaled(layer, LANES, input_scale)
    if layer.bias is not None:
        constants = [*constants, relax.const(_padded(layer.bias.numpy(), LANES))]
    spec = Linear(panels, layer.bias is not None, input_scale is not None)
    return emitter.called(spec.key, spec.function, [x, *constants], (shape_of(x)[0], layer.rows))


def linear_by(product: Product) -> Callable[[Emitter, PackedLayer, Expr], Expr]:
    """Linear layers, of inputs of any number of dimensions, by ``product``."""

    def linear(emitter: Emitter, layer: PackedLayer, x: Expr) -> Expr:
        dtype, shape = dtype_of(x), shape_of(x)
        flat, scale = emitter.input(layer, emitter.reshaped(x, (_product(shape[:-1]), layer.cols)))
        y = product(emitter, layer, flat, scale)
        return emitter.cast(emitter.reshaped(y, (*shape[:-1], layer.rows)), dtype)

    return linear


def _embedding(emitter: Emitter, layer: PackedLayer, x: Expr) -> Expr:
    panels, constants = emitter.panels(layer, emitter._shared_lanes(layer))
    y = emitter.computed("embedding", lambda t, *arrays: computing.rows(t, panels, *arrays), x, *constants)
    return emitter.cast(y, str(layer.dtype).removeprefix("torch."))


def _convolution(emitter: Emitter, layer: PackedLayer, x: Expr) -> Expr:
    assert isinstance(layer, PackedConv | PackedConvTranspose)
    dtype, geometry = dtype_of(x), Geometry.of(layer)
    batched = len(shape_of(x)) > len(geometry.kernel) + 1
    x = x if batched else emitter.builder.emit(relax.op.expand_dims(x, 0))
    x, scale = emitter.input(layer, x)
    if emitter.style.product is not None and geometry.groups == 1:
        y = _by_product(emitter, layer, x, scale, geometry)
    else:
        y = _directly(emitter, layer, x, scale, geometry)
    y = y if batched else emitter.builder.emit(relax.op.squeeze(y, 0))
    return emitter.cast(y, dtype)


def _by_product(emitter: Emitter, layer: PackedLayer, x: Expr, scale: float | None, geometry: Geometry) -> Expr:
    patches = emitter.computed("patches", lambda t: computing.patches(t, geometry), x)
    batch, *outputs, cols = shape_of(patches)
    pixels = _product(outputs)
    assert emitter.style.product is not None
    y = emitter.style.product(emitter, layer, emitter.reshaped(patches, (batch * pixels, cols)), scale)
    y = emitter.builder.emit(relax.op.permute_dims(emitter.reshaped(y, (batch, pixels, layer.rows)), (0, 2, 1)))
    return emitter.reshaped(y, (batch, layer.rows, *outputs))


def _directly(emitter: Emitter, layer: PackedLayer, x: Expr, scale: float | None, geometry: Geometry) -> Expr:
    panels, constants = emitter.panels(layer, 1)
    bias = [] if layer.bias is None else [relax.const(layer.bias.numpy())]

    def compute(t: Any, *arrays: Any) -> Any:
        return computing.convolved(t, geometry, panels, scale, bool(bias), *arrays)

    return emitter.computed("convolution", compute, x, *constants, *bias)


_LAYERS: Mapping[type[PackedLayer], Callable[[Emitter, PackedLayer, Expr], Expr]] = MappingProxyType(
    {
        PackedLinear: lambda emitter, layer, x: emitter.style.linear(emitter, layer, x),
        PackedEmbedding: _embedding,
        PackedConv: _convolution,
        PackedConvTranspose: _convolution,
    }
)


def shape_of(x: Expr) -> tuple[Any, ...]:
    """The sizes of a tensor: numbers, or expressions of symbols."""
    return tuple(int(size) if hasattr(size, "value") else size for size in x.ty.shape.values)


def dtype_of(x: Expr) -> str:
    """The type of a tensor's elements."""
    return str(x.ty.dtype)


def _product(sizes: tuple[Any, ...] | list[Any]) -> Any:
    return math.prod(sizes, start=1)


def _padded(bias: npt.NDArray[np.float32], lanes: int) -> npt.NDArray[np.float32]:
    result = np.zeros(-(-len(bias) // lanes) * lanes, np.float32)
    result[: len(bias)] = bias
    return result.reshape(-1, lanes)
