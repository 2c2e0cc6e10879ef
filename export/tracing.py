"""From a packed model to a graph of torch's operators in which each packed layer is one node.

Exporters write such a node in the form that their engine runs fast, and leave all others to their importer.
"""

from __future__ import annotations

import io
import linecache
import logging
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from contextvars import ContextVar
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional as F

import eqnet
from eqnet.errors import ModelError
from eqnet.ops.library import LIBRARY
from eqnet.packed.layers import PackedConv, PackedConvTranspose, PackedEmbedding, PackedLayer, PackedLinear
from eqnet.packed.model import PackedModel
from eqnet.tracing import ExampleInputs

LIBRARY.define("layer(Tensor x, str path) -> Tensor")
LIBRARY.define("layer_weight(Tensor codes, str path) -> Tensor")

_LAYERS: ContextVar[Mapping[str, PackedLayer]] = ContextVar("layers")
"""By path, those of the model that is being exported; the nodes know their layers by path alone."""

_FOREIGN = ("<", *(str(Path(home).resolve().parent) for home in (torch.__file__, eqnet.__file__, __file__)))
"""How the files of code begin that is not the model's own."""


@contextmanager
def layers_as_nodes(packed: PackedModel, example_inputs: ExampleInputs) -> Iterator[ExportedProgram]:
    """The graph of ``packed``, in which a node ``torch.ops.eqnet.layer(x, path)`` stands for each call of a layer.

    The layer is ``packed.layers[path]``. A node ``torch.ops.eqnet.layer_weight(codes, path)`` stands for its weight in
    floating point, where the model makes use of that itself. The number of samples, the first dimension of every input,
    may be any, and so may the length of sequences, the second dimension of inputs that are integers, unless the model
    needs the example's.

    Args:
        packed: on the CPU; it is left as it was.
        example_inputs: one batch of its inputs: a tensor, a tuple of positional or a mapping of keyword arguments.

    Yields:
        The graph. It can be decomposed and translated within the context, and cannot be run.

    Raises:
        ModelError: the model cannot be exported; the message names the line of its code.
    """
    args, kwargs = _arguments(example_inputs)
    dynamic: Any = {name: _dynamic(value) for name, value in kwargs.items()} or tuple(map(_dynamic, args))
    wrapped = nn.Sequential(packed.model) if isinstance(packed.model, PackedLayer) else packed.model
    with exported(packed, wrapped, args, kwargs, dynamic) as program:
        yield program


@contextmanager
def exported(
    packed: PackedModel, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], dynamic: Any
) -> Iterator[ExportedProgram]:
    """The graph of ``module``, which calls the model of ``packed``, with the nodes of ``layers_as_nodes``.

    Args:
        packed: on the CPU; it is left as it was.
        module: whose graph it is.
        args: positional arguments, no dimension that may have another size being 1.
        kwargs: keyword arguments, likewise.
        dynamic: dimensions that may have another size, as ``torch.export`` takes them.

    Yields:
        As ``layers_as_nodes``.

    Raises:
        ModelError: the model cannot be exported; the message names the line of its code.
    """
    token = _LAYERS.set(packed.layers)
    try:
        for name, layer in packed.layers.items():
            layer.forward = partial(_layer_node, name, layer)
            layer.dequantized_weight = partial(_weight_node, name, layer)  # type: ignore[method-assign]
        try:
            with torch.no_grad(), _torch_is_quiet(), redirect_stderr(io.StringIO()):
                program = torch.export.export(module, args, dict(kwargs), dynamic_shapes=dynamic, strict=False)
        except Exception as e:  # torch.export raises what the traced code raises
            raise ModelError(_refusal(packed.model, e)) from e
        with _torch_is_quiet():
            yield program
    finally:
        for layer in packed.layers.values():
            del layer.forward, layer.dequantized_weight
        _LAYERS.reset(token)


@contextmanager
def _torch_is_quiet() -> Iterator[None]:
    """Without what torch says of its own code, and of what it cannot export, which the error says in full."""
    logger = logging.getLogger("torch")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning)
            yield
    finally:
        logger.setLevel(before)


def _layer_node(name: str, layer: PackedLayer, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    if args or kwargs:
        raise ModelError(
            f"layer '{name}' ({layer.kind.__name__}) is called with more than its input, which cannot be exported; "
            "leave the other arguments out"
        )
    result: Tensor = torch.ops.eqnet.layer(input, name)
    return result


def _weight_node(name: str, layer: PackedLayer, dtype: torch.dtype) -> Tensor:
    result: Tensor = torch.ops.eqnet.layer_weight(layer.codes, name).to(dtype)
    return result


class _Shadow:
    """A layer whose tensors are placeholders: its forward gives the shape of the result."""

    def __init__(self, layer: PackedLayer, x: Tensor) -> None:
        self._layer = layer
        self._x = x

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def quantized_input(self, x: Tensor) -> Tensor:
        return x

    def dequantized_weight(self, dtype: torch.dtype) -> Tensor:
        return self._x.new_empty(self._layer.shape, dtype=dtype)

    def cast_bias(self, dtype: torch.dtype) -> None:
        return None


def _convolved(layer: PackedLayer, x: Tensor) -> Tensor:
    forward: Callable[..., Tensor] = type(layer).forward
    return forward(_Shadow(layer, x), x)


_SHAPES: Mapping[type[PackedLayer], Callable[[Any, Tensor], Tensor]] = {
    PackedLinear: lambda layer, x: F.linear(x, x.new_empty(layer.shape)),
    PackedEmbedding: lambda layer, x: F.embedding(x, x.new_empty(layer.shape, dtype=layer.dtype)),
    PackedConv: _convolved,
    PackedConvTranspose: _convolved,
}
"""By kind of layer, a result of the right shape and type."""


def _fake_layer(x: Tensor, path: str) -> Tensor:
    layer = _LAYERS.get()[path]
    shape = next(shape for kind, shape in _SHAPES.items() if isinstance(layer, kind))
    return shape(layer, x)


def _fake_weight(codes: Tensor, path: str) -> Tensor:
    layer = _LAYERS.get()[path]
    return codes.new_empty(layer.shape, dtype=torch.float32)


torch.library.register_fake("eqnet::layer", _fake_layer, lib=LIBRARY)
torch.library.register_fake("eqnet::layer_weight", _fake_weight, lib=LIBRARY)


def _arguments(inputs: ExampleInputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments, of two samples: dimensions of size 1 would be taken for constants."""
    if isinstance(inputs, Mapping):
        return (), {name: _two_samples(value) for name, value in inputs.items()}
    values = (inputs,) if isinstance(inputs, Tensor) else inputs
    return tuple(_two_samples(value) for value in values), {}


def _two_samples(value: Any) -> Any:
    return value.repeat(2, *[1] * (value.ndim - 1)) if isinstance(value, Tensor) and value.shape[:1] == (1,) else value


def _dynamic(value: Any) -> dict[int, Any] | None:
    """Dimensions that may have another size."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return None
    is_sequence = value.ndim == 2 and not value.is_floating_point() and value.shape[1] > 1
    return {0: Dim.AUTO, 1: Dim.AUTO} if is_sequence else {0: Dim.AUTO}


def _refusal(model: nn.Module, error: Exception) -> str:
    """Names the line of the model's own code, as deep as it goes, that torch.export could not follow."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_FOREIGN)]
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if not own:
        return f"{type(model).__name__} cannot be exported: {reason}"
    last = own[-1]
    line = last.line or linecache.getline(last.filename, last.lineno or 0).strip()
    return (
        f"{type(model).__name__} cannot be exported, as torch.export cannot follow {last.filename}:{last.lineno}: "
        f"{line!r} ({reason}); what the model does must not depend on the values of its inputs: use torch.where or "
        "torch.cond, or move the line out of the model"
    )
