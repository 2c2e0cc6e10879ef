"""What TVM compiles for."""

from __future__ import annotations

import json
from typing import Any

import tvm
from tvm.target import Target, codegen

from eqnet.errors import InputError
from eqnet.export.tvm.toolchain import Compiler

_FEATURES = {"aarch64": ["+neon", "+dotprod"]}
"""That TVM takes for granted of processors of other machines, as eqnet's own kernels are made for."""


def target_for(text: str | None, compiler: Compiler) -> Target:
    """The TVM target of a library.

    Args:
        text: as JSON; None for this processor, or one of the compiler's kind.
        compiler: that links the library.

    Raises:
        InputError: there is no such target, or the compiler does not link for it.
    """
    if text is None:
        return Target(_default(compiler))
    try:
        target = Target(json.loads(text))
    except (ValueError, TypeError) as e:
        raise InputError(
            f'target {text}: TVM knows none like it ({str(e).splitlines()[-1]}); write one like {{"kind": "llvm"}}'
        ) from e
    attributes: dict[str, Any] = dict(target.attrs)
    triple, cpu = str(attributes.get("mtriple", compiler.machine)), str(attributes.get("mcpu", ""))
    if target.kind.name != "llvm" or triple.partition("-")[0] != compiler.machine.partition("-")[0]:
        raise InputError(
            f"target {text}: {' '.join(compiler.command)} links libraries for {compiler.machine}; give a target of the "
            "kind llvm and for that machine, or another compiler"
        )
    if cpu and not codegen.llvm_is_valid_cpu(cpu, triple):
        raise InputError(f"target {text}: there is no processor '{cpu}' of {triple}")
    return target


def any_processor(compiler: Compiler) -> Target:
    """The target of libraries in which TVM's own code has no work to do."""
    return Target({"kind": "llvm", "mtriple": compiler.machine})


def _default(compiler: Compiler) -> dict[str, Any]:
    if compiler.is_native:
        return {"kind": "llvm", "mcpu": codegen.llvm_get_system_cpu()}
    features = {"mattr": _FEATURES[compiler.processor]} if compiler.processor in _FEATURES else {}
    return {"kind": "llvm", "mtriple": compiler.machine, **features}


def input_specs(module: Any) -> list[dict[str, object]]:
    """Name, shape (None where any size may be) and type of each input of the function ``main``."""
    return [
        {
            "name": parameter.name,
            "shape": [int(size) if isinstance(size, tvm.tirx.IntImm) else None for size in parameter.ty.shape.values],
            "dtype": str(parameter.ty.dtype),
        }
        for parameter in module["main"].params
    ]
