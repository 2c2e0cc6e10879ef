"""From a packed model to a module of TVM whose functions are kernels of a GPU."""

from __future__ import annotations

from typing import Any

from tvm.s_tir.dlight import gpu
from tvm.s_tir.dlight.base import ApplyDefaultSchedule
from tvm.target import Target

from eqnet.export.tracing import layers_as_nodes
from eqnet.export.tvm.cuda.products import Tiles, cuda_product
from eqnet.export.tvm.importer import compiled, module_of, scheduled
from eqnet.export.tvm.layers.emission import Style, linear_by
from eqnet.packed.model import PackedModel
from eqnet.tracing import ExampleInputs

SHARED_BYTES = 48 << 10
"""Of memory that the threads of a block share: what every architecture has."""


def cuda_target(architecture: str) -> Target:
    """TVM's target for an architecture such as ``sm_80``."""
    described = {
        "kind": "cuda",
        "arch": architecture,
        "max_threads_per_block": 1024,
        "max_shared_memory_per_block": SHARED_BYTES,
        "thread_warp_size": 32,
    }
    return Target(described, host="llvm")


def cuda_module(packed: PackedModel, example_inputs: ExampleInputs, target: Target) -> Any:
    """A packed model as an IRModule; see ``eqnet.export.tvm.importer.imported_module``.

    Convolutions are taken directly, a thread for each result; if inputs are quantized, as sums of integers.
    """
    style = Style(linear_by(cuda_product(target)), None)
    with layers_as_nodes(packed, example_inputs) as program:
        return module_of(program, packed, style)


def gpu_loops() -> Any:
    """A pass that gives the functions of a module their blocks and threads: TVM's rules, the special ones first."""
    return ApplyDefaultSchedule(
        Tiles(), gpu.GEMV(), gpu.Reduction(), gpu.GeneralReduction(), gpu.Transpose(), gpu.Fallback()
    )


def compile_cuda(module: Any, target: Target) -> Any:
    """Compiles what ``cuda_module`` gave to a TVM executable: code of the host, and CUDA."""
    return compiled(scheduled(module, target, gpu_loops()), target)


def cuda_source(executable: Any) -> str:
    """The CUDA in an executable; empty if nothing runs on a GPU."""
    pending: list[Any] = [executable.mod]
    while pending:
        module = pending.pop()
        if module.kind == "cuda":
            return str(module.inspect_source())
        pending = [*pending, *module.imports]
    return ""
