"""What can be chosen of a library for TVM, and what is said of one that has been written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from eqnet.errors import InputError

KERNELS = ("tir", "eqnet")


@dataclass(frozen=True)
class TvmOptions:
    """How a library is made.

    Attributes:
        kernels: what computes the packed layers: ``tir``, code that TVM compiles, or ``eqnet``, eqnet's own C++.
        target: what TVM compiles for, as JSON such as ``{"kind": "llvm", "mcpu": "skylake-avx512"}``; None for the
            processor of this machine, or any processor of the kind that ``cc`` compiles for.
        cc: the C++ compiler that links the library, such as ``aarch64-linux-gnu-g++``; None for ``$CXX`` or ``c++``.

    Raises:
        InputError: there are no such kernels.
    """

    kernels: str = "tir"
    target: str | None = None
    cc: str | None = None

    def __post_init__(self) -> None:
        if self.kernels not in KERNELS:
            raise InputError(f"kernels '{self.kernels}' are unknown; choose {' or '.join(KERNELS)}")


@dataclass(frozen=True)
class TvmReport:
    """What was written.

    Attributes:
        path: of the library.
        loader: a Python script beside it, which runs it.
        nbytes: of the library.
        weight_bytes: of the packed weights in it, in exactly their bits.
        kernels: as in the options.
        whole: whether the network is one program on integers; else its layers are called one by one.
        machine: that it is for, such as ``x86_64-linux-gnu``.
        difference: of its result for the example from the packed model's, relative to that, in the 2-norm; None if it
            is for another machine than this one.
    """

    path: Path
    loader: Path
    nbytes: int
    weight_bytes: int
    kernels: str
    whole: bool
    machine: str
    difference: float | None
