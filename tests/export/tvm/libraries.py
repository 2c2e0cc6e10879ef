"""Libraries in this process, and what tools say of their files."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def load(path: Path) -> Any:
    """The function ``main`` of a library."""
    import tvm
    from tvm.runtime.vm import VirtualMachine

    return VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())["main"]


def run(main: Any, x: Tensor) -> Tensor:
    """The result of such a function."""
    import tvm

    return torch.from_numpy(main(tvm.runtime.tensor(x.numpy())).numpy())


def defined_symbols(path: Path) -> set[str]:
    """All that a library lets others see."""
    listed = subprocess.run(["nm", "-D", "--defined-only", str(path)], capture_output=True, text=True, check=True)
    return {line.split()[-1] for line in listed.stdout.splitlines()}
