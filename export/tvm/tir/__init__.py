"""Packed convolutional networks as TVM modules whose layers are TIR functions, all sums of products exact integers."""

from __future__ import annotations

from typing import Any

import tvm
from torch import Tensor
from tvm import relax

from eqnet.export.tvm.recording import record
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


def compile_module(module: Any, target: Any) -> Any:
    """Compiles what ``tir_module`` gave, leaving its constants as they are.

    Args:
        module: the IRModule.
        target: the one that it was made for.

    Returns:
        A TVM executable.
    """
    passes = relax.transform
    pipeline = tvm.transform.Sequential(
        [
            passes.ToNonDataflow(),
            passes.RemovePurityChecking(),
            passes.CallTIRRewrite(),
            passes.StaticPlanBlockMemory(),
            passes.LowerAllocTensor(),
            passes.KillAfterLastUse(),
            passes.LowerRuntimeBuiltin(),
            passes.ComputePrimValue(),
            passes.VMShapeLower(),
            passes.AttachGlobalSymbol(),
        ]
    )
    # Functions are called by ``main`` alone, which checks its input; their own checks would double the size of a file.
    with target, tvm.transform.PassContext(opt_level=3, config={"tirx.disable_assert": True}):
        return relax.build(module, target=target, relax_pipeline=pipeline)
