"""Many small networks compiled as one module, as compiling each alone takes longer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import tvm
from torch import Tensor
from tvm.target import codegen

from eqnet.export.tvm.recording import record
from eqnet.export.tvm.tir import compile_module
from eqnet.export.tvm.tir.dots import DOTS, Dot
from eqnet.export.tvm.tir.network import ModuleWriter
from eqnet.packed.model import PackedModel

HOST = tvm.target.Target({"kind": "llvm", "mcpu": codegen.llvm_get_system_cpu()})

FEATURES = frozenset(codegen.llvm_get_cpu_features(HOST))

# The instruction of 256 bits is there with AVX-512 too.
RUNNABLE: tuple[Dot | None, ...] = (
    *(dot for dot in DOTS if dot.features & FEATURES or ("vpdpbusd.256" in dot.name and "avx512vnni" in FEATURES)),
    None,
)
"""Instructions for dot products that can be tested here; None is doing without."""


class Module:
    """Compiled networks.

    Args:
        networks: packed networks and the shape of one input of each, by name.
        dot: the instruction to use.

    Attributes:
        networks: as given.
    """

    def __init__(self, networks: Mapping[str, tuple[PackedModel, tuple[int, ...]]], dot: Dot | None) -> None:
        self.networks = networks
        writer = ModuleWriter(dot)
        for name, (model, shape) in networks.items():
            writer.add(name, record(model, torch.zeros(2, *shape)), shape)
        self.machine = tvm.relax.VirtualMachine(compile_module(writer.module(), HOST), tvm.cpu())

    def __call__(self, name: str, x: Tensor) -> Tensor:
        """What one network returns."""
        return run(self.machine[name], x)


def run(function: Any, x: Tensor) -> Tensor:
    """The result of a compiled function."""
    return torch.from_numpy(function(tvm.runtime.tensor(x.contiguous().numpy())).numpy())
