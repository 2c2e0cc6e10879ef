"""From a packed model to what a library of it is made of, by who computes its packed layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tvm

from eqnet.export.tvm.kernels.calls import called_layers, program_module
from eqnet.export.tvm.kernels.objects import LINEAR_PART, PROGRAM_PART, Part
from eqnet.export.tvm.kernels.serialized import serialized_layers, serialized_program
from eqnet.export.tvm.targets import any_processor
from eqnet.export.tvm.toolchain import Compiler
from eqnet.packed.model import PackedModel
from eqnet.runtime.program import single_image
from eqnet.runtime.unsupported import UnsupportedError
from eqnet.tracing import ExampleInputs


@dataclass(frozen=True)
class Module:
    """What TVM compiles, and what is linked to it.

    Attributes:
        module: an IRModule with a function ``main``.
        target: that it is for.
        compile: from both to an executable.
        whole: whether it is one program on integers.
        part: of eqnet's kernels, if it calls any.
        model: the bytes that those read.
    """

    module: Any
    target: Any
    compile: Callable[[Any, Any], Any] = field(repr=False)
    whole: bool
    part: Part | None = None
    model: bytes = field(default=b"", repr=False)


def make_module(packed: PackedModel, example: ExampleInputs, kernels: str, target: Any, compiler: Compiler) -> Module:
    """What a library of ``packed`` is made of: one program if the network can be one.

    Args:
        packed: the model.
        example: one batch of its inputs.
        kernels: a key of ``KERNELS``.
        target: of the code that TVM writes.
        compiler: that links the library.

    Raises:
        ModelError: TVM cannot import the model; the message names what of it.
    """
    return KERNELS[kernels](packed, example, target, compiler)


def _eqnet(packed: PackedModel, example: ExampleInputs, target: Any, compiler: Compiler) -> Module:
    try:
        x = single_image(example)
        model, result = serialized_program(packed, x)
    except UnsupportedError:
        return _imported(packed, example, "eqnet", target)
    module = program_module(_input_name(packed), tuple(x.shape[1:]), result[1:])
    return Module(module, any_processor(compiler), tvm.compile, True, PROGRAM_PART, model)


def _tir(packed: PackedModel, example: ExampleInputs, target: Any, compiler: Compiler) -> Module:
    from eqnet.export.tvm.tir import compile_module, tir_module

    try:
        x = single_image(example)
        module = tir_module(packed, x, target)
    except UnsupportedError:
        return _imported(packed, example, "tir", target)
    return Module(module, target, compile_module, True)


def _imported(packed: PackedModel, example: ExampleInputs, kernels: str, target: Any) -> Module:
    from eqnet.export.tvm.importer import compile_imported, imported_module

    module = imported_module(packed, example, kernels)
    by_path = {layer.path: layer for layer in packed.layers.values()}
    called = {path: by_path[path] for path in called_layers(module)}
    part, model = (LINEAR_PART, serialized_layers(called)) if called else (None, b"")
    return Module(module, target, compile_imported, False, part, model)


Make = Callable[[PackedModel, ExampleInputs, Any, Compiler], Module]
KERNELS: Mapping[str, Make] = {"tir": _tir, "eqnet": _eqnet}
"""By their names, what makes libraries of them."""


def _input_name(packed: PackedModel) -> str:
    return next(iter(inspect.signature(packed.model.forward).parameters))
