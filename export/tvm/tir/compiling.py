"""From an IRModule of TIR functions and Relax functions to an executable."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax, s_tir, tirx
from tvm.tirx import compilation_pipeline

TIR_PIPELINE = "eqnet.tir"
"""Name, among TVM's, of the passes that lower TIR functions."""


def _lower_functions() -> Any:
    """Those of TVM's own passes that functions for CPUs need, without schedules; it takes two thirds of the time."""

    def lower(module: Any, _: Any) -> Any:
        passes = [
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.LowerOpaqueBlock(),
            tirx.transform.FlattenBuffer(),
            tirx.transform.NarrowDataType(32),
            tirx.transform.StmtSimplify(),
            tirx.transform.VerifyMemory(),
            tirx.transform.AnnotateEntryFunc(),
            tirx.transform.SplitHostDevice(),
            tirx.transform.MakePackedAPI(),
        ]
        return tvm.transform.Sequential(passes)(module)

    return tvm.transform.module_pass(lower, opt_level=0)


def _tir_pipeline() -> tuple[Any, Any, Any]:
    return _lower_functions(), compilation_pipeline.finalize_host_passes, compilation_pipeline.finalize_device_passes


def _relax_pipeline() -> Any:
    """TVM's own but for folding constants, which would unpack weights, and fusing functions, which are whole."""
    passes = relax.transform
    return tvm.transform.Sequential(
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


def compile_module(module: Any, target: Any) -> Any:
    """Compiles what ``tir_module`` gave, leaving its constants as they are.

    Args:
        module: the IRModule.
        target: the one that it was made for.

    Returns:
        A TVM executable.
    """
    tirx.register_tir_pipeline(TIR_PIPELINE, _tir_pipeline)
    # Functions are called by ``main`` alone, which checks its input; their own checks would double the size of a file.
    with target, tvm.transform.PassContext(opt_level=3, config={"tirx.disable_assert": True}):
        return relax.build(module, target=target, relax_pipeline=_relax_pipeline(), tir_pipeline=TIR_PIPELINE)
