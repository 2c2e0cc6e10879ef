"""Packed convolutional networks as TVM modules whose layers are TIR functions, all sums of products exact integers."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from eqnet.export.tvm.recording import record
from eqnet.export.tvm.tir.compiling import compile_module
from eqnet.export.tvm.tir.dots import best_dot
from eqnet.export.tvm.tir.network import ModuleWriter
from eqnet.packed.model import PackedModel

__all__ = ["compile_module", "tir_module"]


def tir_module(packed: PackedModel, example: Tensor, target: Any) -> Any:
    """A network as an IRModule.

    Its function ``main`` takes float32 [N, channels, height, width] or [N, features], of any N and of the size of the
    example, and returns what the packed model does, but for values that lie half-way between two codes. Weights are
    constants of b bits a code.

    Args:
        packed: what ``eqnet.pack`` or ``eqnet.load`` returned; all layers must have activation formats.
        example: one batch of its input.
        target: a TVM target of the kind llvm.

    Raises:
        UnsupportedError: the network does something that has no integer form; the message names it.
    """
    writer = ModuleWriter(best_dot(target))
    writer.add("main", record(packed, example), tuple(example.shape[1:]))
    return writer.module()
