"""Engines that networks are timed in: eqnet's own, and those that it exports to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from eqnet.export.destinations import DESTINATIONS, Export
from eqnet.packed.model import PackedModel
from eqnet.search.latency.engines import TIMED
from eqnet.search.latency.exported import Write
from eqnet.search.latency.onnxruntime import onnxruntime
from eqnet.search.latency.tvm import tvm


def _written(name: str, **options: Any) -> Write:
    """What writes models to the destination ``name``."""

    def write(packed: PackedModel, path: Path, example: Tensor, calibration: Sequence[Tensor]) -> None:
        DESTINATIONS[name].write(Export(packed, path, example, calibration, options))

    return write


_EXPORTED = (
    # Alone, a layer's result is quantized by nothing; in most places of a network it is, and so runs on integers.
    onnxruntime("onnxruntime", _written("onnx", exact=False)),
    onnxruntime("onnxruntime-weight-only", _written("onnx")),
    tvm("tvm-llvm", _written("tvm")),
)

ENGINES = MappingProxyType({**TIMED, **{row.target: row for row in _EXPORTED}})
"""By target."""
