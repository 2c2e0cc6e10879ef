"""Runs a network's TIR functions that are compiled for another processor, under an emulator, without TVM's runtime."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tvm import ir, relax

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"

AVAILABLE = shutil.which(COMPILER) is not None and shutil.which(EMULATOR) is not None
"""Whether there are a compiler and an emulator for aarch64."""

HARNESS = Path(__file__).with_name("emulated.c")

TYPE_CODES = {"i": 0, "u": 1, "f": 2}


def run(module: Any, executable: Any, x: npt.NDArray[np.float32], folder: Path) -> npt.NDArray[np.float32]:
    """What the function ``main`` returns for ``x``.

    Args:
        module: what ``tir_module`` gave.
        executable: what ``compile_module`` made of it, for aarch64.
        x: the input.
        folder: for files.
    """
    tensors, calls, names = _calls(module, x)
    parts = [_numbers(len(tensors)), *map(_tensor, tensors), _numbers(len(calls))]
    parts += [_numbers(names.index(name), len(given), *given) for name, given in calls]
    (folder / "calls").write_bytes(b"".join(parts))
    executable.mod.imports[0].write_to_file(str(folder / "network.o"))
    functions = " ".join(f"F(__tvm_ffi_{name})" for name in names)
    files = [f"-DFUNCTIONS={functions}", str(HARNESS), str(folder / "network.o"), "-o", str(folder / "network")]
    subprocess.run([COMPILER, "-O1", "-static", *files], check=True)
    answer = subprocess.run([EMULATOR, folder / "network", folder / "calls"], check=True, capture_output=True).stdout
    return np.frombuffer(answer, np.float32).reshape(tensors[-1].shape)


def _calls(module: Any, x: npt.NDArray[np.float32]) -> tuple[list[Any], list[tuple[str, list[int]]], list[str]]:
    """All tensors, the calls by function and tensors, and the functions."""
    tensors: list[Any] = [x]
    values: dict[Any, list[int]] = {module["main"].params[0]: [0]}
    calls = []
    for binding in module["main"].body.blocks[0].bindings:
        if isinstance(binding.value, relax.TupleGetItem):
            values[binding.var] = [values[binding.value.tuple_value][binding.value.index]]
            continue
        if isinstance(binding.value, relax.Var):
            values[binding.var] = values[binding.value]
            continue
        function, arguments = binding.value.args[:2]
        given = []
        for argument in arguments.fields:
            if isinstance(argument, ir.Constant):
                tensors.append(argument.value.numpy())
                given.append(len(tensors) - 1)
            else:
                given += values[argument]
        (results,) = binding.value.ty_args
        values[binding.var] = []
        for result in results.fields if isinstance(results, relax.TupleType) else [results]:
            shape = [len(x), *(int(extent) for extent in list(result.shape)[1:])]
            tensors.append(np.zeros(shape, str(result.dtype)))
            values[binding.var].append(len(tensors) - 1)
        calls.append((function.name_hint, given + values[binding.var]))
    return tensors, calls, sorted({name for name, _ in calls})


def _numbers(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}q", *values)


def _tensor(tensor: npt.NDArray[Any]) -> bytes:
    head = _numbers(TYPE_CODES[tensor.dtype.kind], 8 * tensor.itemsize, tensor.ndim, *tensor.shape, tensor.nbytes)
    return head + tensor.tobytes().ljust(-(-tensor.nbytes // 8) * 8, b"\0")
