"""TIR functions compiled for ARM, run under an emulator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import tvm
from torch import nn

from eqnet.export.tvm.tir import compile_module, tir_module
from tests.eqnet.runtime.networks import Formats, in_float64, packed
from tests.eqnet.runtime.test_program import ROUNDING, apart_from_ties
from tests.export.tvm.tir import emulated

pytestmark = pytest.mark.skipif(
    not emulated.AVAILABLE, reason=f"{emulated.COMPILER} or {emulated.EMULATOR} is not installed"
)


@pytest.mark.parametrize("features", [["+neon"], ["+neon", "+dotprod"]], ids=["neon", "dotprod"])
@pytest.mark.parametrize("weight", ["uint4:channel", "uint8:channel", "int3:group4"])
def test_equals_float64(weight: str, features: list[str], tmp_path: Path, generator: torch.Generator) -> None:
    target = tvm.target.Target({"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mattr": features})
    layers = [
        nn.Conv2d(3, 20, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(20, 20, 3, padding=1, groups=20),
        nn.Conv2d(20, 36, 3, padding=1),  # shared by threads
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(36, 5),
    ]
    model = packed(nn.Sequential(*layers), Formats.parse(f"{weight} × uint8:tensor"), generator)
    module = tir_module(model, torch.zeros(1, 3, 20, 19), target)

    def draw() -> torch.Tensor:
        return torch.randn(2, 3, 20, 19, generator=generator)

    x, expected = apart_from_ties(in_float64(model), draw)
    result = torch.tensor(emulated.run(module, compile_module(module, target), x.numpy(), tmp_path))
    assert ((result - expected).abs() <= ROUNDING * expected.abs().max()).all()
