"""Packed models as CUDA: its source, compiled for some architectures, and the library that launches it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eqnet.errors import MissingPackageError

if TYPE_CHECKING:
    from eqnet.export.tvm.cuda.writing import CudaReport
    from eqnet.packed.model import PackedModel
    from eqnet.tracing import ExampleInputs

__all__ = ["ARCHITECTURES", "write_cuda"]

ARCHITECTURES = ("sm_80", "sm_90")
"""Those that are compiled for where none are chosen; kernels.fatbin also runs on newer ones."""

_PACKAGES = ("tvm", "tvm_ffi")


def write_cuda(
    packed: PackedModel,
    path: str | Path,
    example_inputs: ExampleInputs,
    archs: Sequence[str] = ARCHITECTURES,
    report: Callable[[str, int, int], None] | None = None,
) -> CudaReport:
    """Writes ``packed`` as CUDA into a folder.

    There is the source, ``kernels.cu``, in which weights are unpacked as they are read; what nvcc makes of it, a cubin
    for each architecture and one ``kernels.fatbin`` of all; and ``model.so``, which holds the weights in exactly their
    bits and launches the kernels, with a script ``load.py`` that runs it where TVM has CUDA. The number of samples may
    be any.

    Args:
        packed: on the CPU; it is left as it was.
        path: of the folder; it is made if there is none.
        example_inputs: one batch of its inputs: a tensor, a tuple of positional or a mapping of keyword arguments.
        archs: architectures such as ``sm_80``.
        report: told (stage, done, total).

    Raises:
        InputError: there is no such architecture, or nvcc or a C++ compiler is missing; the message says what to do.
        ModelError: the model cannot be exported; the message names what of it.
        MissingPackageError: the extra ``tvm`` is not installed.
        RunError: a file cannot be written, or nvcc fails.
    """
    try:
        from eqnet.export.tvm.cuda.writing import write
    except ImportError as e:
        if (e.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise MissingPackageError(f"writing CUDA needs {e.name}: pip install 'eqnet[tvm]'") from e
    return write(packed, Path(path), example_inputs, archs, report)
