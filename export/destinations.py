"""Where a packed model can be exported to; one row a destination."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import Tensor

from eqnet.errors import InputError
from eqnet.export.compressed_tensors.options import check_replaceable as check_compressed_tensors
from eqnet.files import check_folder_writable
from eqnet.packed.artifact import check_replaceable

if TYPE_CHECKING:
    from eqnet.packed.model import PackedModel

Report = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Export:
    """What is to be written, and where.

    Attributes:
        packed: the model.
        path: of the file or folder.
        example: one batch of the model's inputs.
        calibration: batches of inputs that are like those of its use.
        options: of the destination, by name; only those that the user gave.
        report: told (stage, done, total).
        source: where a language model came from (``eqnet.lm.source.Source``); None for all other models.
    """

    packed: PackedModel
    path: Path
    example: Tensor
    calibration: Sequence[Tensor] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    report: Report | None = None
    source: Any = None


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        nbytes: of all files.
        facts: what else there is to say, by what it is about; for people and programs.
    """

    nbytes: int
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Destination:
    """A form in which a packed model is written.

    Attributes:
        name: as it is given to ``--to``.
        title: one line for people.
        write: writes.
        suffix: of the name of the file; None for a folder.
        options: names of those that it takes.
        check_folder: raises RunError if a folder that is there must not be replaced.
    """

    name: str
    title: str
    write: Callable[[Export], Written]
    suffix: str | None = None
    options: tuple[str, ...] = ()
    check_folder: Callable[[Path], None] | None = None

    def check(self, path: Path, options: Mapping[str, Any]) -> None:
        """Finds out before any work whether there is a reason not to write there.

        Raises:
            InputError: the path or an option is one of another destination.
            RunError: the file or folder cannot be written, or the folder holds something else.
        """
        if self.suffix is not None and path.suffix != self.suffix:
            raise InputError(f"--out {path}: --to {self.name} writes a file; give a name that ends in {self.suffix}")
        for name in options:
            if name not in self.options:
                others = [row.name for row in DESTINATIONS.values() if name in row.options]
                raise InputError(
                    f"--{name}: --to {self.name} has no such option; it is one of --to {', '.join(others)}"
                )
        check_folder_writable(path if self.suffix is None else path.parent)
        if self.check_folder is not None and path.exists():
            self.check_folder(path)


def _eqnet(export: Export) -> Written:
    from eqnet.packed.artifact import Artifact

    if export.source is not None:
        from eqnet.lm.folder import save

        save(export.packed, export.source, export.path)
    else:
        export.packed.save(export.path)
    artifact = Artifact.open(export.path)
    return Written(artifact.nbytes + artifact.overhead, {"overhead": artifact.overhead})


def _onnx(export: Export) -> Written:
    from eqnet.export.onnx import OnnxOptions, write_onnx
    from eqnet.export.onnx.causal import is_causal, write_causal

    options = OnnxOptions(**export.options)
    if is_causal(export.packed):
        report = write_causal(export.packed, export.path, options=options, report=export.report)
    else:
        report = write_onnx(
            export.packed,
            export.path,
            export.example,
            calibration=export.calibration,
            options=options,
            report=export.report,
        )
    facts = {
        "stored_weights": report.stored_bytes,
        "packed_weights": report.packed_bytes,
        "opset": report.opset,
        "any": list(report.dynamic),
        "layers": report.forms(),
    }
    return Written(report.nbytes, facts)


def _tvm(export: Export) -> Written:
    from eqnet.export.tvm import TvmOptions, write_tvm

    names = {"machine": "target"}  # TVM calls target what --target does not mean
    options = TvmOptions(**{names.get(name, name): value for name, value in export.options.items()})
    report = write_tvm(export.packed, export.path, export.example, options=options, report=export.report)
    facts = {
        "packed_weights": report.weight_bytes,
        "kernels": report.kernels,
        "machine": report.machine,
        "loader": str(report.loader),
        "difference": report.difference,
    }
    return Written(report.nbytes, facts)


def _cuda(export: Export) -> Written:
    from eqnet.export.tvm.cuda import ARCHITECTURES, write_cuda

    architectures = export.options.get("arch") or ",".join(ARCHITECTURES)
    report = write_cuda(export.packed, export.path, export.example, architectures.split(","), export.report)
    return Written(report.nbytes, {"architectures": list(report.architectures), "kernels": report.kernels})


def _gguf(export: Export) -> Written:
    from eqnet.export.gguf import write_gguf

    report = write_gguf(export.packed, export.path, source=export.source, report=export.report)
    facts = {
        "stored_weights": report.stored_bytes,
        "packed_weights": report.packed_bytes,
        "stored_bpw": report.bpw,
        "layers": report.forms,
        "tokenizer": report.tokenizer,
    }
    return Written(report.nbytes, facts)


def _compressed_tensors(export: Export) -> Written:
    from eqnet.export.compressed_tensors import write_compressed_tensors

    report = write_compressed_tensors(
        export.packed, export.path, source=export.source, report=export.report, **export.options
    )
    facts = {
        "stored_weights": report.stored_bytes,
        "packed_weights": report.packed_bytes,
        "layers": report.forms,
        "dense": [f"{name} ({nbytes:,} bytes)" for name, nbytes in report.dense.items()],
        "computes_in": report.dtype,
        "loads": report.loads,
    }
    return Written(report.nbytes, facts)


_ROWS = (
    Destination("eqnet", "eqnet's own artifact: config.json and safetensors", _eqnet, check_folder=check_replaceable),
    Destination("onnx", "one .onnx file for ONNX Runtime", _onnx, ".onnx", ("portable", "exact", "opset")),
    Destination("tvm", "one .so library for TVM's runtime", _tvm, ".so", ("kernels", "machine", "cc")),
    Destination(
        "cuda", "a folder of CUDA for TVM: source, cubins, and a library that launches them", _cuda, None, ("arch",)
    ),
    Destination("gguf", "one .gguf file for llama.cpp", _gguf, ".gguf"),
    Destination(
        "compressed-tensors",
        "a folder for vLLM and transformers",
        _compressed_tensors,
        None,
        ("engine",),
        check_compressed_tensors,
    ),
)

DESTINATIONS: Mapping[str, Destination] = MappingProxyType({row.name: row for row in _ROWS})


def destination(name: str) -> Destination:
    """The destination of that name; raises InputError, with those that there are, if there is none."""
    if name not in DESTINATIONS:
        close = difflib.get_close_matches(name, DESTINATIONS, n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"--to {name}: there is no such destination; {guess}there are: {', '.join(DESTINATIONS)}")
    return DESTINATIONS[name]
