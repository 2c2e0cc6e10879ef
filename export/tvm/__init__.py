"""One shared library that TVM's runtime runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from eqnet.errors import MissingPackageError, RunError
from eqnet.export.tvm.options import TvmOptions, TvmReport

if TYPE_CHECKING:
    from eqnet.packed.model import PackedModel
    from eqnet.tracing import ExampleInputs

__all__ = ["TvmOptions", "TvmReport", "write_tvm"]


def write_tvm(
    packed: PackedModel,
    path: str | Path,
    example_inputs: ExampleInputs,
    *,
    options: TvmOptions | None = None,
    report: Callable[[str, int, int], None] | None = None,
) -> TvmReport:
    """Writes ``packed`` as a shared library, checks it, and only then puts it in the place of what was there.

    The library holds its weights in exactly their bits, and all code that it needs but for TVM's runtime; a short
    script beside it, ``model_loader.py`` for ``model.so``, runs it where neither eqnet nor torch nor a compiler is.
    The number of samples may be any. Convolutional networks whose layers all have activation formats are one program on
    integers; of other models, TVM's importer takes what is not packed.

    Args:
        packed: on the CPU; it is left as it was.
        path: of the library.
        example_inputs: one batch of its inputs: a tensor, a tuple of positional or a mapping of keyword arguments.
        options: see ``TvmOptions``.
        report: told (stage, done, total).

    Raises:
        InputError: there is no such target or compiler.
        ModelError: the model cannot be exported; the message names what of it.
        MissingPackageError: the extra ``tvm`` is not installed.
        RunError: the file cannot be written, or not be linked, or computes something else; or this process has loaded
            TVM without its compiler.
    """
    try:
        import tvm

        if getattr(tvm.base, "_RUNTIME_ONLY", False):
            raise RunError(
                "this process has loaded TVM without its compiler, to run a library or because of TVM_USE_RUNTIME_LIB; "
                "write libraries in another process, or import tvm before anything is run"
            )
        from eqnet.export.tvm.writing import write
    except ImportError as e:
        if (e.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise MissingPackageError(f"writing a library for TVM needs {e.name}: pip install 'eqnet[tvm]'") from e
    return write(packed, Path(path), example_inputs, options or TvmOptions(), report)


_PACKAGES = ("tvm", "tvm_ffi")
