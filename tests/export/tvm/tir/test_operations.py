"""What lies between layers, as TIR, against float64."""

from __future__ import annotations

import zlib

import pytest
import torch

from eqnet.packed.model import PackedModel
from tests.eqnet.runtime.networks import in_float64, packed
from tests.eqnet.runtime.test_program import OPERATIONS, ROUNDING, W4A8, W8A8, apart_from_ties
from tests.export.tvm.tir.modules import RUNNABLE, Module


def shape_of(name: str) -> tuple[int, ...]:
    return (3,) if name == "linear layers" else (3, 7, 5)


@pytest.fixture(scope="module")
def module() -> Module:
    """All operations, every second one with another format."""
    generator = torch.Generator().manual_seed(0)
    networks: dict[str, tuple[PackedModel, tuple[int, ...]]] = {}
    for i, (name, make) in enumerate(OPERATIONS.items()):
        networks[key(name)] = packed(make(), (W8A8, W4A8)[i % 2], generator), shape_of(name)
    return Module(networks, RUNNABLE[0])


def key(name: str) -> str:
    """The name of a function."""
    return f"operation{zlib.crc32(name.encode())}"


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_equal_float64(name: str, module: Module, generator: torch.Generator) -> None:
    model, shape = module.networks[key(name)]
    x, expected = apart_from_ties(in_float64(model), lambda: torch.randn(2, *shape, generator=generator))
    result = module(key(name), x)
    assert result.shape == expected.shape
    assert ((result - expected).abs() <= ROUNDING * expected.abs().max()).all()
