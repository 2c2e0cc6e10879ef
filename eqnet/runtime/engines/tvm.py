"""Libraries that TVM compiled, in TVM's runtime."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from eqnet.errors import InputError, MissingPackageError, RunError
from eqnet.packed.record import Record
from eqnet.runtime.engines import elf
from eqnet.runtime.engines.metadata import NO_RECORD, SYMBOL, parse, record_of
from eqnet.runtime.outputs import first_output
from eqnet.runtime.runner import InputSpec, Runner, check, described

MAIN = "main"
"""The function of the Relax program that is the model."""

_ALIGNMENT = 64
"""Bytes, of the address of every tensor that TVM takes."""

_ALL_CORES = 1
"""TVM's mode of a thread pool that prefers no kind of core."""


@dataclass(frozen=True)
class LibraryRecord:
    """What a library of eqnet's says of itself.

    Attributes:
        machine: that it is for.
        record: of the formats; None if eqnet did not write it.
        inputs: what it takes; empty likewise.
        version: of the eqnet that wrote it; empty likewise.
        kernels: what computes its packed layers, ``tir`` or ``eqnet``; empty likewise.
    """

    machine: str
    record: Record | None = None
    inputs: tuple[InputSpec, ...] = ()
    version: str = ""
    kernels: str = ""

    @classmethod
    def read(cls, path: Path) -> LibraryRecord:
        """Reads it from the file; nothing of the library is loaded.

        Raises:
            RunError: the file is missing, damaged or no library.
        """
        library = elf.read(path, SYMBOL)
        if library.text is None:
            return cls(library.machine)
        data = parse(path, SYMBOL, library.text.decode(errors="replace"))
        match data:
            case {"version": str(version), "record": record, "inputs": [*inputs], "kernels": str(kernels)}:
                specs = tuple(_spec(path, spec) for spec in inputs)
                return cls(library.machine, record_of(path, SYMBOL, record), specs, version, kernels)
        raise RunError(f"{path}: its {SYMBOL} lacks version, record, inputs or kernels; export it again")


class TvmRunner(Runner):
    """The Relax program of a library, on the CPU."""

    kind = "tvm"

    def __init__(self, path: Path, library: LibraryRecord, machine: _Machine, threads: int | None) -> None:
        super().__init__(path, library.record, library.inputs)
        self._machine, self._threads = machine, threads

    @classmethod
    def open(cls, path: Path, *, threads: int | None = None) -> TvmRunner:
        """Loads the library, which is machine code that may do anything.

        Raises:
            MissingPackageError: TVM is not installed.
            RunError: the file is missing or damaged, is for another machine, or holds no Relax program.
        """
        library = LibraryRecord.read(path)
        if library.machine != elf.this_machine():
            raise RunError(f"{path}: is for {library.machine}; this machine is {elf.this_machine()}: export it anew")
        tvm = _runtime(path)
        try:
            return cls(path, library, _Machine(tvm.runtime.load_module(str(path.resolve()))), threads)
        except (AttributeError, RuntimeError, ValueError) as e:  # the first if a function is not in it
            raise RunError(
                f"{path}: TVM finds no Relax program with a function '{MAIN}' in it ({_last_line(e)}); export it again "
                "with this version of TVM"
            ) from e

    def __call__(self, *xs: Tensor) -> Tensor:
        if self.inputs:
            check(self.path, self.inputs, xs)
        tvm = sys.modules["tvm"]
        _use_threads(tvm, self._threads or torch.get_num_threads())
        try:
            returned = self._machine.main(*(tvm.runtime.from_dlpack(_aligned(x)) for x in xs))
        except (RuntimeError, ValueError, TypeError) as e:
            raise InputError(f"{self.path}: does not run on {described(xs)}: {_last_line(e)}") from e
        return first_output(_tensors(returned))

    def __str__(self) -> str:
        said = [f"TVM {sys.modules['tvm'].__version__}"]
        if self.record is None:
            said.append(NO_RECORD)
        return "; ".join(said)


class _Machine(threading.local):
    """TVM's virtual machine of a library: one for each thread that calls, as a machine keeps the frames of one call."""

    def __init__(self, library: Any) -> None:
        import tvm
        from tvm.runtime.vm import VirtualMachine

        self.main = VirtualMachine(library, tvm.cpu())[MAIN]


_pool: list[int] = []
"""Threads that TVM's pool was last set to use; one pool serves all libraries."""


def _use_threads(tvm: Any, count: int) -> None:
    if _pool != [count]:
        tvm.get_global_func("runtime.config_threadpool")(_ALL_CORES, count)
        _pool[:] = [count]


def _runtime(path: Path) -> Any:
    """TVM, without its compiler unless that is there already."""
    # Else TVM binds the thread that calls it to one core, and all that this process does from then on.
    os.environ.setdefault("TVM_BIND_THREADS", "0")
    before = os.environ.get("TVM_USE_RUNTIME_LIB")
    os.environ.setdefault("TVM_USE_RUNTIME_LIB", "1")
    try:
        import tvm
    except ImportError as e:
        raise MissingPackageError(f"{path}: compiled libraries need TVM ({e}); pip install 'eqnet[tvm]'") from e
    finally:
        if before is None:
            os.environ.pop("TVM_USE_RUNTIME_LIB", None)
    return tvm


def _aligned(x: Tensor) -> Tensor:
    x = x.detach().contiguous()
    return x if x.data_ptr() % _ALIGNMENT == 0 else x.clone()


def _tensors(returned: Any) -> Any:
    """What TVM returned, tuples of tensors too, as PyTorch's tensors on the same memory."""
    if hasattr(returned, "__dlpack__"):
        tensor: Tensor = from_dlpack(returned)
        return tensor
    return [_tensors(part) for part in returned]


def _spec(path: Path, data: object) -> InputSpec:
    match data:
        case {"name": str(name), "shape": [*shape], "dtype": str(dtype)} if all(
            size is None or type(size) is int for size in shape
        ) and isinstance(getattr(torch, dtype, None), torch.dtype):
            return InputSpec(name, tuple(shape), getattr(torch, dtype))
    raise RunError(f"{path}: its {SYMBOL} describes an input as {data!r}; export it again")


def _last_line(error: Exception) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
