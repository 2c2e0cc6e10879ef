"""From the path of an artifact to what runs it; one row an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from eqnet.errors import InputError
from eqnet.runtime.runner import Runner


@dataclass(frozen=True)
class Settings:
    """How an artifact is to be run.

    Attributes:
        exact: as the quantized formats define it; else engines may round more than that to be faster.
        threads: that it may use; as many as PyTorch does if None.
        model: for folders of models that eqnet cannot build by itself; see ``eqnet.load``.
    """

    exact: bool
    threads: int | None
    model: nn.Module | Callable[[], nn.Module] | None


@dataclass(frozen=True)
class Row:
    """A form of artifact.

    Attributes:
        suffix: of the name of its file; empty if it is a folder.
        title: for people.
        open: opens one.
    """

    suffix: str
    title: str
    open: Callable[[Path, Settings], Runner]


def _packed(path: Path, settings: Settings) -> Runner:
    from eqnet.runtime.engines.packed import PackedRunner

    return PackedRunner.open(path, settings.model, exact=settings.exact, threads=settings.threads)


def _onnx(path: Path, settings: Settings) -> Runner:
    from eqnet.runtime.engines.onnx import OnnxRunner

    return OnnxRunner.open(path, exact=settings.exact, threads=settings.threads)


def _tvm(path: Path, settings: Settings) -> Runner:
    from eqnet.runtime.engines.tvm import TvmRunner

    return TvmRunner.open(path, threads=settings.threads)


ENGINES = (
    Row("", "a folder that eqnet export wrote", _packed),
    Row(".onnx", "an ONNX model", _onnx),
    Row(".so", "a library that TVM compiled", _tvm),
)


def is_file_of_engine(path: Path) -> bool:
    """Whether ``path`` is named like an artifact in one file, be it there or not."""
    return not path.is_dir() and any(row.suffix and path.suffix == row.suffix for row in ENGINES)


def open(
    path: str | Path,
    *,
    exact: bool = True,
    threads: int | None = None,
    model: nn.Module | Callable[[], nn.Module] | None = None,
) -> Runner:
    """Opens an artifact of any form, to be called like a function.

    A folder that ``eqnet export`` wrote runs as one integer program where it compiles, and else layer by layer; an
    ``.onnx`` runs in ONNX Runtime, be it eqnet's or not; a ``.so`` in TVM's runtime. A ``.so`` is machine code: open
    only those that you trust.

    Args:
        path: of the artifact.
        exact: compute what the formats define. If False, products with inputs in floating point may be taken in int8,
            and ONNX Runtime may let sums of 16 bits overflow on processors without instructions for 8-bit products.
        threads: that it may use; as many as PyTorch does if None.
        model: for folders of models that eqnet cannot build by itself: the model that was made elastic, or a function
            that makes it.

    Raises:
        InputError: the file is of no form that can be opened.
        RunError: it is missing or damaged, or needs a newer engine.
        MissingPackageError: the engine is not installed; the message has the command that installs it.

    Example::

        runner = eqnet.runtime.open("model.onnx")
        logits = runner(x)
    """
    path = Path(path)
    if is_file_of_engine(path):
        row = next(row for row in ENGINES if row.suffix == path.suffix)
        if model is not None:
            raise InputError(f"{path}: is {row.title}, which holds its model; leave out model=")
    elif path.is_file():
        known = "; ".join(f"{row.title}{f' (*{row.suffix})' if row.suffix else ''}" for row in ENGINES)
        raise InputError(f"{path}: is no artifact that can be run; give one of: {known}")
    else:
        row = ENGINES[0]
    return row.open(path, Settings(exact, threads, model))
