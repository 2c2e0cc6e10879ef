"""Packed models as ONNX files, in the forms that ONNX Runtime runs on integers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from eqnet.errors import MissingPackageError
from eqnet.export.onnx.options import LayerForm, OnnxOptions, OnnxReport

if TYPE_CHECKING:
    from eqnet.packed.model import PackedModel
    from eqnet.tracing import ExampleInputs

__all__ = ["LayerForm", "OnnxOptions", "OnnxReport", "write_onnx"]


def write_onnx(
    packed: PackedModel,
    path: str | Path,
    example_inputs: ExampleInputs,
    *,
    calibration: Iterable[ExampleInputs] | None = None,
    options: OnnxOptions | None = None,
    report: Callable[[str, int, int], None] | None = None,
) -> OnnxReport:
    """Writes ``packed`` as an ONNX file, checks it, and only then puts it in the place of what was there.

    The batch may have any size, and so may sequences of integers. Every layer computes what it does in ``packed``, but
    for what ``OnnxOptions.exact`` excludes: where the result of a convolution is not quantized, and all inputs have 8
    bits, it is rounded to 8 bits if no integer kernel gives it in floating point, or if it is added to another one or
    averaged, and so are such sums.
    The ranges for that are those of the values on ``calibration``.

    Inputs in floating point stay so in ONNX Runtime, unless ``packed.compute`` is ``int8``. In portable files it is the
    session that decides: by default, ONNX Runtime rounds them there.

    Args:
        packed: on the CPU; it is left as it was.
        path: of the file.
        example_inputs: one batch of its inputs: a tensor, a tuple of positional or a mapping of keyword arguments.
        calibration: batches like those of its use; without any, no result is rounded.
        options: see ``OnnxOptions``.
        report: told (stage, done, total).

    Raises:
        InputError: the opset is too old for a layer's bits, or unknown to the packages installed.
        ModelError: the model cannot be exported; the message names the line of its code.
        MissingPackageError: the extra ``onnx`` is not installed.
        RunError: the file cannot be written.
    """
    try:
        from eqnet.export.onnx.writing import write
    except ImportError as e:
        if (e.name or "").partition(".")[0] not in _PACKAGES:
            raise
        raise MissingPackageError(f"writing ONNX needs the package {e.name}: pip install 'eqnet[onnx]'") from e
    return write(packed, Path(path), example_inputs, list(calibration or ()), options or OnnxOptions(), report)


_PACKAGES = ("onnx", "onnx_ir", "onnxscript", "ml_dtypes")
