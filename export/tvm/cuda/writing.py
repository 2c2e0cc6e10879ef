"""From a packed model to a folder of CUDA."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from eqnet.errors import RunError
from eqnet.export.tvm.cuda.loader import loader_text
from eqnet.export.tvm.cuda.module import compile_cuda, cuda_module, cuda_source, cuda_target
from eqnet.export.tvm.cuda.nvcc import Nvcc, check_architectures
from eqnet.export.tvm.library import RECORD, link_library
from eqnet.export.tvm.targets import input_specs
from eqnet.export.tvm.toolchain import Compiler
from eqnet.files import unwritable, write_atomically
from eqnet.packed.model import PackedModel
from eqnet.tracing import ExampleInputs

_STAGES = ("Writing code", "Compiling CUDA", "Linking")

SOURCE, FATBIN, LIBRARY, LOADER = "kernels.cu", "kernels.fatbin", "model.so", "load.py"
"""Files of the folder, beside kernels.sm_80.cubin and its like for each architecture."""


@dataclass(frozen=True)
class CudaReport:
    """What was written.

    Attributes:
        path: of the folder.
        nbytes: of all files.
        architectures: that kernels were compiled for, oldest first.
        kernels: functions that run on the GPU.
    """

    path: Path
    nbytes: int
    architectures: tuple[str, ...]
    kernels: int


def write(
    packed: PackedModel,
    path: Path,
    example_inputs: ExampleInputs,
    architectures: Sequence[str],
    report: Callable[[str, int, int], None] | None,
) -> CudaReport:
    """See ``eqnet.export.tvm.cuda.write_cuda``."""
    tell = report or (lambda stage, done, total: None)
    names, nvcc, compiler = check_architectures(architectures), Nvcc.find(), Compiler.find()
    _make_folder(path)
    steps = len(names) + 3
    tell(_STAGES[0], 0, steps)
    target = cuda_target(names[0])
    module = cuda_module(packed, example_inputs, target)
    inputs = input_specs(module)
    executable = compile_cuda(module, target)
    source = cuda_source(executable)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / SOURCE).write_text(source)
        for done, architecture in enumerate(names, 1):
            tell(_STAGES[1], done, steps)
            nvcc.cubin(folder / SOURCE, architecture, folder / f"kernels.{architecture}.cubin")
        tell(_STAGES[1], steps - 2, steps)
        nvcc.fatbin(folder / SOURCE, names, folder / FATBIN)
        tell(_STAGES[2], steps - 1, steps)
        record = {"version": version("eqnet"), "record": packed.record.to_json(), "inputs": inputs, "kernels": "cuda"}
        described = {RECORD: json.dumps(record, separators=(",", ":")).encode()}
        link_library(executable, folder / LIBRARY, compiler, [], described)
        (folder / LOADER).write_text(loader_text([str(spec["name"]) for spec in inputs]))
        files = sorted(folder.iterdir())
        for file in files:
            write_atomically(path / file.name, file.read_bytes())
        nbytes = sum(file.stat().st_size for file in files)
    tell(_STAGES[2], steps, steps)
    return CudaReport(path, nbytes, names, source.count('extern "C" __global__') // 2)


def _make_folder(path: Path) -> None:
    """Makes the folder, or raises RunError: before work that takes a while."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except FileExistsError as e:
        raise RunError(f"{path}: is a file; CUDA is written to a folder, so give another name") from e
    except OSError as e:
        raise unwritable(path, e) from e
