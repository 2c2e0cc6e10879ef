"""From a packed model to an ONNX graph in which each packed layer still is one node."""

from __future__ import annotations

import re
from typing import Any

import onnx
import onnx_ir as ir
import onnxscript
import torch

from eqnet.errors import ModelError
from eqnet.export.tracing import layers_as_nodes
from eqnet.packed.model import PackedModel
from eqnet.tracing import ExampleInputs

DOMAIN = "eqnet"
LAYER, LAYER_WEIGHT, LAYER_PRODUCT = "Layer", "LayerWeight", "LayerProduct"
"""Operators of the domain: ``Layer(x) {path}``, ``LayerWeight(codes) {path}``, ``LayerProduct(x) {path}``.

Torch writes the first two; none is left in the end.
"""

_NEWEST_TRANSLATED = 23
"""The newest opset that torch writes; what it writes means the same in those after it."""

_DYNAMIC = ("batch", "sequence")
"""Names of dimensions of any size, by their position in an input."""


def translate(packed: PackedModel, example_inputs: ExampleInputs, opset: int) -> ir.Model:
    """The graph, with inputs named after the arguments of the model and, if there is but one, the output ``output``.

    Raises:
        ModelError: the model cannot be exported.
    """
    with layers_as_nodes(packed, example_inputs) as program:
        model = translate_program(program, type(packed.model).__name__, opset)
        _fix_dimensions(model.graph, program)
    _rename_dimensions(model.graph)
    if len(model.graph.outputs) == 1:
        model.graph.outputs[0].name = "output"
    return model


def translate_program(program: torch.export.ExportedProgram, name: str, opset: int) -> ir.Model:
    """The graph of a program of ``eqnet.export.tracing``, within its context.

    Args:
        program: to be translated.
        name: of the model, for messages.
        opset: version of the operators.

    Raises:
        ModelError: the model has an operator that has no ONNX form.
    """
    try:
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=min(opset, _NEWEST_TRANSLATED),
            custom_translation_table={
                torch.ops.eqnet.layer.default: _operator(LAYER),
                torch.ops.eqnet.layer_weight.default: _operator(LAYER_WEIGHT),
            },
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as e:
        reason = str(e.__cause__ or e).strip().splitlines()[0]
        raise ModelError(f"{name} cannot be written as ONNX: {reason}") from e
    assert exported is not None
    model: ir.Model = exported.model
    model.graph.opset_imports[""] = opset
    return model


def _operator(name: str) -> Any:
    """What torch's exporter calls to write such a node."""
    schemas = onnx.defs
    schema = schemas.OpSchema(
        name,
        DOMAIN,
        1,
        inputs=[schemas.OpSchema.FormalParameter("x", "X")],
        outputs=[schemas.OpSchema.FormalParameter("y", "Y")],
        type_constraints=[(kind, ["tensor(float)"], "") for kind in "XY"],
        attributes=[schemas.OpSchema.Attribute("path", schemas.OpSchema.AttrType.STRING, "")],
    )
    op = onnxscript.values.Op(onnxscript.values.Opset(DOMAIN, 1), name, schema)
    return lambda x, path: op(x, path=path)


def _fix_dimensions(graph: ir.Graph, program: torch.export.ExportedProgram) -> None:
    """Gives dimensions of inputs their size where the model takes no other, as one does that calls ``len(x)``."""
    sizes = {
        node.name: value.shape
        for node in program.graph.nodes
        if isinstance(value := node.meta.get("val"), torch.Tensor)
    }
    for value in graph.inputs:
        if value.shape is not None and value.name in sizes:
            value.shape = ir.Shape(
                [
                    dimension if (known := _known(size)) is None else known
                    for dimension, size in zip(value.shape, sizes[value.name], strict=True)
                ]
            )


def _known(size: int | torch.SymInt) -> int | None:
    """The size; None if it may be any."""
    if isinstance(size, int):
        return size
    known: int | None = size.node.maybe_as_int()
    return known


def _rename_dimensions(graph: ir.Graph) -> None:
    """Gives the symbols of torch (s77) the names of what they count."""
    names: dict[str, str] = {}
    for value in graph.inputs:
        for name, dimension in zip(_DYNAMIC, value.shape or (), strict=False):
            if isinstance(dimension, ir.SymbolicDim) and dimension.value is not None:
                symbol = str(dimension.value)
                names.setdefault(symbol, name if name not in names.values() else f"{name}_{len(names)}")
    pattern = re.compile("|".join(rf"\b{re.escape(symbol)}\b" for symbol in names) or r"(?!)")
    values = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    for value in values:
        if value.shape is not None:
            value.shape = ir.Shape(
                [
                    pattern.sub(lambda match: names[match[0]], str(dimension.value))
                    if isinstance(dimension, ir.SymbolicDim) and dimension.value is not None
                    else dimension
                    for dimension in value.shape
                ]
            )
