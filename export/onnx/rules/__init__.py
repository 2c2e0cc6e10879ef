"""Rules that bring a graph into the form that ONNX Runtime runs fastest, one a file, in the order of their use."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)

from eqnet.export.onnx.options import LayerForm, OnnxOptions
from eqnet.packed.model import PackedModel
from eqnet.tracing import ExampleInputs


def simplify(
    model: ir.Model,
    packed: PackedModel,
    calibration: Sequence[ExampleInputs],
    options: OnnxOptions,
    forms: dict[str, LayerForm],
) -> None:
    """Applies all rules; brings ``forms`` up to date."""
    ClearMetadataAndDocStringPass()(model)
    RemoveUnusedNodesPass()(model)
    DeduplicateInitializersPass()(model)
    CommonSubexpressionEliminationPass()(model)
    RemoveUnusedOpsetsPass()(model)
