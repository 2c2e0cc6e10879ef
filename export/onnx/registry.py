"""Which function writes which kind of packed layer; one file a kind in ``layers/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir import tape

from eqnet.errors import ModelError
from eqnet.export.onnx.options import LayerForm, OnnxOptions
from eqnet.packed.layers import PackedLayer


class Operators(tape.Tape):
    """Makes operators by their names: ``op.Conv(x, w, group=2)``."""

    def __getattr__(self, name: str) -> Callable[..., ir.Value]:
        return lambda *inputs, **attributes: self.op(name, inputs, attributes)


PARTS_OF_WEIGHTS = ("weight", "scale", "zero_point")
"""With what the names of initializers that hold a layer's weight begin, behind the name of the layer."""


@dataclass(eq=False)
class Site:
    """One use of a layer in the graph, where its operators are to be written.

    Attributes:
        layer: the layer.
        x: its input; None where the weight itself is asked for.
        op: makes operators that are inserted here.
        options: as given by the user.
        form: how the layer was written; the writer sets it.
        dtype: of the result that the graph expects.
        rank: dimensions of the result.
    """

    layer: PackedLayer
    x: ir.Value | None
    op: Operators
    options: OnnxOptions
    dtype: ir.DataType
    rank: int
    form: LayerForm | None = None
    _names: set[str] = field(default_factory=set)
    _shared: dict[tuple[int, str], ir.Value] = field(default_factory=dict)

    def shared(self, make: Callable[[], ir.TensorProtocol], name: str, of: object) -> ir.Value:
        """An initializer that layers which hold the same tensor ``of`` share."""
        key = id(of), name
        if key not in self._shared:
            self._shared[key] = self.constant(make(), name)
        return self._shared[key]

    def has(self, name: str, of: object) -> bool:
        """Whether there is such an initializer already."""
        return (id(of), name) in self._shared

    def constant(self, value: ir.TensorProtocol | np.ndarray[Any, Any], name: str) -> ir.Value:
        """An initializer. Its name is that of the layer with ``name`` behind it."""
        full, i = f"{self.layer.path}.{name}", 1
        while full in self._names:
            i += 1
            full = f"{self.layer.path}.{name}{i}"
        self._names.add(full)
        if isinstance(value, np.ndarray | np.generic):
            value = ir.tensor(np.asarray(value), name=full)
        value.name = full
        return self.op.initializer(value, full)


Writer = Callable[[Site], ir.Value]

_LAYERS: dict[tuple[type[PackedLayer], bool], Writer] = {}
_WEIGHTS: dict[type[PackedLayer], Writer] = {}
_PRODUCTS: dict[type[PackedLayer], Writer] = {}


def writes(*kinds: type[PackedLayer], quantized_input: bool | None = None) -> Callable[[Writer], Writer]:
    """Registers how calls of layers of ``kinds``, and of kinds derived from them, are written.

    Args:
        kinds: packed layers.
        quantized_input: only those whose input is quantized, only those whose input is not, or all.
    """

    def register(writer: Writer) -> Writer:
        for kind in kinds:
            for quantized in (True, False) if quantized_input is None else (quantized_input,):
                _LAYERS[kind, quantized] = writer
        return writer

    return register


def writes_weight(*kinds: type[PackedLayer]) -> Callable[[Writer], Writer]:
    """Registers how the weight of such layers is written, in floating point and torch's layout."""

    def register(writer: Writer) -> Writer:
        _WEIGHTS.update(dict.fromkeys(kinds, writer))
        return writer

    return register


def writes_product(*kinds: type[PackedLayer]) -> Callable[[Writer], Writer]:
    """Registers how products with the weight of such layers, transposed, are written where they are taken outside."""

    def register(writer: Writer) -> Writer:
        _PRODUCTS.update(dict.fromkeys(kinds, writer))
        return writer

    return register


def layer_writer(layer: PackedLayer) -> Writer:
    """Raises ModelError if there is none."""
    for kind in type(layer).__mro__:
        if writer := _LAYERS.get((kind, layer.input_format is not None)):
            return writer
    raise ModelError(f"layer '{layer.path}': a {layer.kind.__name__} has no ONNX form")


def weight_writer(layer: PackedLayer) -> Writer:
    """Raises ModelError if there is none."""
    return _outside(layer, _WEIGHTS)


def product_writer(layer: PackedLayer) -> Writer:
    """Raises ModelError if there is none."""
    return _outside(layer, _PRODUCTS)


def _outside(layer: PackedLayer, writers: Mapping[type[PackedLayer], Writer]) -> Writer:
    for kind in type(layer).__mro__:
        if writer := writers.get(kind):
            return writer
    raise ModelError(f"layer '{layer.path}': the weight of a {layer.kind.__name__} has no ONNX form outside its layer")
