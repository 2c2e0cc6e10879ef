"""From a packed causal language model to an ONNX file with keys and values as inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch

from eqnet.export.onnx.causal.decoding import cache_shapes, decoding_program
from eqnet.export.onnx.lowering import lower
from eqnet.export.onnx.metadata import describe
from eqnet.export.onnx.opsets import opset_for
from eqnet.export.onnx.options import OnnxOptions, OnnxReport
from eqnet.export.onnx.registry import PARTS_OF_WEIGHTS
from eqnet.export.onnx.rules import simplify
from eqnet.export.onnx.saving import save
from eqnet.export.onnx.translation import translate_program
from eqnet.export.onnx.writing import Report
from eqnet.files import check_writable
from eqnet.packed.model import PackedModel

BATCH, LENGTH, PAST, TOTAL = "batch_size", "sequence_length", "past_sequence_length", "total_sequence_length"
"""Dimensions of any size. The last one is the sum of the two before it."""


def write(packed: PackedModel, path: Path, options: OnnxOptions, report: Report | None) -> OnnxReport:
    """See ``eqnet.export.onnx.causal.write_causal``."""
    opset = opset_for(packed.layers, options.opset, options.portable)
    check_writable(path)
    with decoding_program(packed) as program:
        model = translate_program(program, type(packed.model).__name__, opset)
    _name(model.graph, packed)
    forms = lower(model.graph, packed.layers, options, report)
    simplify(model, packed, (), options, forms)
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
        dynamic=(BATCH, LENGTH, PAST),
    )


def _name(graph: ir.Graph, packed: PackedModel) -> None:
    """Gives inputs and outputs their names and shapes."""
    decoder: Any = packed.model
    shapes, tokens = cache_shapes(decoder), decoder.get_output_embeddings().weight.shape[0]
    inputs = [("input_ids", (BATCH, LENGTH)), ("attention_mask", (BATCH, TOTAL)), ("position_ids", (BATCH, LENGTH))]
    _rename(graph.inputs, [*inputs, *_cached("past_key_values", PAST, shapes)])
    _rename(graph.outputs, [("logits", (BATCH, LENGTH, tokens)), *_cached("present", TOTAL, shapes)])


def _cached(
    name: str, length: str, shapes: Iterable[tuple[int, int, torch.dtype]]
) -> Iterator[tuple[str, tuple[int | str, ...]]]:
    for i, (heads, head, _) in enumerate(shapes):
        for part in ("key", "value"):
            yield f"{name}.{i}.{part}", (BATCH, heads, length, head)


def _rename(values: Iterable[ir.Value], named: Iterable[tuple[str, tuple[int | str, ...]]]) -> None:
    for value, (name, shape) in zip(values, named, strict=True):
        value.name, value.shape = name, ir.Shape(shape)


def _stored_bytes(graph: ir.Graph, layers: Iterable[str]) -> int:
    """Bytes of codes, scales and zero points in the file."""
    prefixes = tuple(f"{layer}.{part}" for layer in layers for part in PARTS_OF_WEIGHTS)
    tensors = (value.const_value for name, value in graph.initializers.items() if name.startswith(prefixes))
    return sum(tensor.nbytes for tensor in tensors if tensor is not None)
