"""What a file says of the quantization in it."""

from __future__ import annotations

import json
from importlib.metadata import version

import onnx_ir as ir

from eqnet.export.onnx.lowering import LAYER_KEY
from eqnet.packed.model import PackedModel

VERSION, RECORD, LAYERS = "eqnet.version", "eqnet.record", "eqnet.layers"
"""Keys of the metadata: of eqnet, of ``Record.to_json``, and of the names of layers' results by those of layers."""


def describe(model: ir.Model, packed: PackedModel) -> None:
    """Writes the metadata, and who made the model."""
    model.producer_name, model.producer_version = "eqnet", version("eqnet")
    model.metadata_props.clear()
    model.metadata_props[VERSION] = version("eqnet")
    model.metadata_props[RECORD] = json.dumps(packed.record.to_json(), separators=(",", ":"))
    model.metadata_props[LAYERS] = json.dumps(results(model.graph), separators=(",", ":"))


def results(graph: ir.Graph) -> dict[str, str]:
    """The names of those values in the graph that are a layer's result in floating point, by that of the layer."""
    found: dict[str, str] = {}
    for node in graph:
        for value in node.outputs:
            if LAYER_KEY in value.meta and value.name is not None:
                found.setdefault(value.meta[LAYER_KEY], value.name)
    return found
