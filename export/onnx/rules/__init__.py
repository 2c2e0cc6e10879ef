"""Rules that bring a graph into the form that ONNX Runtime runs fastest, one a file, in the order of their use."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    IdentityEliminationPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)

from eqnet.export.onnx.naming import shorten
from eqnet.export.onnx.options import LayerForm, OnnxOptions
from eqnet.export.onnx.ranges import Range, channel_ranges
from eqnet.export.onnx.rules.bias_in_units import BiasInUnits
from eqnet.export.onnx.rules.clip_before_pad import ClipBeforePad
from eqnet.export.onnx.rules.half_scales import HalfScales
from eqnet.export.onnx.rules.integer_clips import ClipAfterMaxPool, DropIntegerClip, MergeIntegerClips
from eqnet.export.onnx.rules.mean_of_codes import MeanOfCodes
from eqnet.export.onnx.rules.mean_of_transpose import MeanOfTranspose
from eqnet.export.onnx.rules.pad_into_conv import PadIntoConv
from eqnet.export.onnx.rules.pointwise_as_gemm import PointwiseAsGemm
from eqnet.export.onnx.rules.quantize_before_clip import QuantizeBeforeClip
from eqnet.export.onnx.rules.quantize_before_concat import QuantizeBeforeConcat
from eqnet.export.onnx.rules.quantize_before_moves import QUANTIZE_BEFORE_MOVES
from eqnet.export.onnx.rules.quantize_before_pad import QuantizeBeforePad
from eqnet.export.onnx.rules.quantize_before_relu import QuantizeBeforeRelu
from eqnet.export.onnx.rules.quantize_dequantized import QuantizeDequantized
from eqnet.export.onnx.rules.result_by_channel import ResultByChannel
from eqnet.export.onnx.rules.results import results, sums
from eqnet.export.onnx.rules.rule import Rule, apply
from eqnet.export.onnx.rules.sums_on_codes import SumsOnCodes
from eqnet.export.onnx.rules.transpose_after import TRANSPOSE_AFTER_BOTH, TRANSPOSE_AFTER_ELEMENTWISE
from eqnet.export.onnx.rules.transposes import CancelTransposes
from eqnet.packed.model import PackedModel
from eqnet.tracing import ExampleInputs

QUANTIZE_EARLY: tuple[type[Rule], ...] = (
    QuantizeBeforeRelu,
    QuantizeBeforeClip,
    QuantizeBeforePad,
    QuantizeBeforeConcat,
    *QUANTIZE_BEFORE_MOVES,
    QuantizeDequantized,
    ClipBeforePad,
    ClipAfterMaxPool,
    MergeIntegerClips,
    DropIntegerClip,
)
"""Move QuantizeLinear up to the layer whose result it quantizes; no code changes."""

CHANNELS_LAST: tuple[type[Rule], ...] = (
    CancelTransposes,
    *TRANSPOSE_AFTER_ELEMENTWISE,
    *TRANSPOSE_AFTER_BOTH,
    MeanOfTranspose,
)
"""Move Transpose down to where it cancels out, or to codes, which are a quarter of the bytes."""


def simplify(
    model: ir.Model,
    packed: PackedModel,
    calibration: Sequence[ExampleInputs],
    options: OnnxOptions,
    forms: dict[str, LayerForm],
) -> None:
    """Applies all rules; brings ``forms`` up to date."""
    ClearMetadataAndDocStringPass()(model)
    _merge_equals(model)
    apply(model, QUANTIZE_EARLY)
    PadIntoConv()(model)
    _merge_equals(model)
    ranges = _ranges(model, packed, calibration) if calibration and not options.exact else {}
    SumsOnCodes(packed.layers, ranges, forms)(model)
    apply(model, (*QUANTIZE_EARLY, MeanOfCodes))
    PointwiseAsGemm(packed.layers, options)(model)
    ResultByChannel(packed.layers, ranges, options, forms)(model)
    apply(model, CHANNELS_LAST)
    BiasInUnits(packed.layers)(model)
    _merge_equals(model)
    HalfScales()(model)
    shorten(model.graph, packed.layers)


def _ranges(model: ir.Model, packed: PackedModel, calibration: Sequence[ExampleInputs]) -> dict[ir.Value, Range]:
    """Of all results of convolutions, and of their sums, that are not quantized."""
    found = results(model.graph, packed.layers)
    values = [result.value for result in [*found, *sums(model.graph, found)]]
    return channel_ranges(model, [value for value in values if value.shape is not None], calibration)


def _merge_equals(model: ir.Model) -> None:
    """Leaves one of equal initializers and operators, and nothing that is not used."""
    RemoveUnusedNodesPass()(model)
    IdentityEliminationPass()(model)
    DeduplicateInitializersPass()(model)
    CommonSubexpressionEliminationPass()(model)
    RemoveUnusedOpsetsPass()(model)
