"""TVM, as compiled by LLVM."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from eqnet.bench.timing import Call
from eqnet.formats import MAX_BITS, Format, Granularity, LayerFormat
from eqnet.search.latency.engine import Timed
from eqnet.search.latency.exported import FileEngine, Write
from eqnet.space import Layer

_INPUT = Format(MAX_BITS, False)
"""Stands for every format of an input: codes are bytes while they are computed with, whatever their width."""


def tvm(target: str, write: Write) -> Timed:
    """The row of a target that TVM's runtime runs.

    Args:
        target: its name.
        write: writes a library.
    """
    return Timed(
        target,
        lambda some, example, space, threads: FileEngine("TVM", ".so", write, _opened, stand_in, threads),
        ("apache-tvm", "eqnet"),
        extra="tvm",
    )


def stand_in(layer: Layer, fmt: LayerFormat) -> LayerFormat:
    """See ``Kernels``.

    Kernels unpack weights of the width that they are compiled for, with zero points or without, and with a scale for
    each channel or for each group.
    """
    weight, activation = layer.stored_format(fmt.weight), _INPUT if fmt.activation is not None else None
    if weight.group_size and weight.group_size < layer.cols:
        return LayerFormat(weight, activation)
    return LayerFormat(Format(weight.bits, weight.symmetric, Granularity.CHANNEL), activation)


def _opened(path: Path, x: Tensor, threads: int) -> Call:
    from eqnet.runtime import open as open_artifact

    runner = open_artifact(path, threads=threads)
    return lambda: runner(x)
