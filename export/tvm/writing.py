"""From a packed model to a shared library."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tvm

from eqnet.export.tvm.checking import difference
from eqnet.export.tvm.kernels.calls import LINEAR, PROGRAM
from eqnet.export.tvm.kernels.objects import kernel_objects
from eqnet.export.tvm.kernels.serialized import weight_bytes
from eqnet.export.tvm.library import MODEL, RECORD, link_library
from eqnet.export.tvm.loader import loader_path, loader_text
from eqnet.export.tvm.modules import Module, make_module
from eqnet.export.tvm.options import TvmOptions, TvmReport
from eqnet.export.tvm.targets import input_specs, target_for
from eqnet.export.tvm.toolchain import Compiler
from eqnet.files import check_writable, write_atomically
from eqnet.packed.model import PackedModel
from eqnet.tracing import ExampleInputs

Report = Callable[[str, int, int], None]
_STAGES = ("Writing code", "Compiling", "Checking")


def write(
    packed: PackedModel, path: Path, example_inputs: ExampleInputs, options: TvmOptions, report: Report | None
) -> TvmReport:
    """See ``eqnet.export.tvm.write_tvm``."""
    tell = report or (lambda stage, done, total: None)
    check_writable(path)
    compiler = Compiler.find(options.cc)
    target = target_for(options.target, compiler)
    tell(_STAGES[0], 0, 3)
    made = make_module(packed, example_inputs, options.kernels, target, compiler)
    inputs = input_specs(made.module)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tell(_STAGES[1], 1, 3)
        library = folder / path.name
        _build(made, library, compiler, folder, _description(packed, inputs, options.kernels))
        text = loader_text(path, [str(spec["name"]) for spec in inputs])
        tell(_STAGES[2], 2, 3)
        loader_path(library).write_text(text)
        found = difference(packed, library, example_inputs, made.whole) if compiler.is_native else None
        nbytes = library.stat().st_size
        write_atomically(path, library.read_bytes())
        write_atomically(loader_path(path), text)
    tell(_STAGES[2], 3, 3)
    return TvmReport(
        path=path,
        loader=loader_path(path),
        nbytes=nbytes,
        weight_bytes=weight_bytes(layer.weight for layer in packed.layers.values()),
        kernels=options.kernels,
        whole=made.whole,
        machine=compiler.machine,
        difference=found,
    )


def _description(packed: PackedModel, inputs: list[dict[str, object]], kernels: str) -> bytes:
    """What the library says of itself."""
    record = packed.record.to_json()
    said = {"version": version("eqnet"), "record": record, "inputs": inputs, "kernels": kernels}
    return json.dumps(said, separators=(",", ":")).encode()


def _build(made: Module, library: Path, compiler: Compiler, folder: Path, description: bytes) -> None:
    module, data, objects = made.module, {RECORD: description}, []
    if made.part is not None:
        shim, *objects = kernel_objects(made.part, compiler, folder)
        # TVM looks for functions that it has not compiled in libraries that it has been told of.
        known: Any = tvm.runtime.load_static_library(str(shim), [PROGRAM if made.whole else LINEAR])
        module = module.with_attr("external_mods", [known])
        data[MODEL] = made.model
    executable = made.compile(module, made.target)
    link_library(executable, library, compiler, objects, data)
