"""From a packed model to an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir

from eqnet.export.onnx.lowering import lower
from eqnet.export.onnx.metadata import describe
from eqnet.export.onnx.opsets import opset_for
from eqnet.export.onnx.options import OnnxOptions, OnnxReport
from eqnet.export.onnx.registry import PARTS_OF_WEIGHTS
from eqnet.export.onnx.rules import simplify
from eqnet.export.onnx.saving import save
from eqnet.export.onnx.translation import translate
from eqnet.files import check_writable
from eqnet.packed.model import PackedModel
from eqnet.tracing import ExampleInputs

Report = Callable[[str, int, int], None]


def write(
    packed: PackedModel,
    path: Path,
    example_inputs: ExampleInputs,
    calibration: Sequence[ExampleInputs],
    options: OnnxOptions,
    report: Report | None,
) -> OnnxReport:
    """See ``eqnet.export.onnx.write_onnx``."""
    opset = opset_for(packed.layers, options.opset, options.portable)
    check_writable(path)
    options = replace(options, exact=_has_narrow_inputs(packed) if options.exact is None else options.exact)
    model = translate(packed, example_inputs, opset)
    forms = lower(model.graph, packed.layers, options, report)
    simplify(model, packed, calibration, options, forms)
    describe(model, packed)
    model.ir_version = onnx.helper.find_min_ir_version_for(
        [onnx.helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()], True
    )
    nbytes = save(model, path)
    weights = {id(layer.codes): layer.weight for layer in packed.layers.values()}.values()
    return OnnxReport(
        path=path,
        nbytes=nbytes,
        packed_bytes=sum(weight.nbytes for weight in weights),
        stored_bytes=_stored_bytes(model.graph, packed.layers),
        opset=opset,
        layers=forms,
        dynamic=_dynamic(model.graph),
    )


def _has_narrow_inputs(packed: PackedModel) -> bool:
    """Whether some layer's input has fewer than 8 bits: what is rounded before it may change a code, a large step."""
    return any(layer.input_format is not None and layer.input_format.bits < 8 for layer in packed.layers.values())


def _dynamic(graph: ir.Graph) -> tuple[str, ...]:
    """Names of the dimensions of inputs that may have any size."""
    shapes = [value.shape for value in graph.inputs if value.shape is not None]
    return tuple(dict.fromkeys(str(d.value) for shape in shapes for d in shape if isinstance(d, ir.SymbolicDim)))


def _stored_bytes(graph: ir.Graph, layers: Iterable[str]) -> int:
    """Bytes of codes, scales and zero points in the file."""
    prefixes = tuple(f"{layer}.{part}" for layer in layers for part in PARTS_OF_WEIGHTS)
    tensors = (value.const_value for name, value in graph.initializers.items() if name.startswith(prefixes))
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
