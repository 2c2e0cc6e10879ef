"""The training of one block's codes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from eqnet.formats import Format
from eqnet.lm.distilling import Distillation
from eqnet.lm.given import Given
from eqnet.lm.methods import METHODS
from eqnet.lm.rounded import Rates
from eqnet.packed.tensor import PackedTensor

WINDOWS, LENGTH, WIDTH = 16, 32, 64

GAIN = 0.95
"""Of the squared error that error compensation leaves: training is to find clearly less."""


class Block(nn.Module):
    """Two layers and something between them that is not linear."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = (nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(nn.functional.silu(self.up(x)))  # type: ignore[no-any-return]


@pytest.fixture
def block() -> Block:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Block()


@pytest.fixture
def given() -> Given:
    """Inputs with few directions that matter, as those of language models: there compensation moves many codes."""
    generator = torch.Generator().manual_seed(1)
    strength = torch.logspace(0, -2, WIDTH)
    mix = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=generator))[0]
    return Given(((torch.randn(WINDOWS, LENGTH, WIDTH, generator=generator) * strength) @ mix * 8,), {})


def compensated(block: Block, given: Given, fmt: str) -> tuple[dict[str, Tensor], dict[str, PackedTensor]]:
    """Weights of the layers, and their codes."""
    x = given.hidden.flatten(0, 1)
    inputs = {"up": x, "down": nn.functional.silu(block.up(x)).detach()}
    exact = {name: block.get_submodule(name).get_parameter("weight").detach().clone() for name in inputs}
    return exact, {
        name: METHODS["gptq"].quantize(exact[name], Format.parse(fmt), torch.float16, seen.T @ seen / len(seen))
        for name, seen in inputs.items()
    }


@torch.no_grad()
def error(block: Block, given: Given, packed: Mapping[str, PackedTensor], wanted: Tensor) -> float:
    weights = {f"{name}.weight": weight.dequantize() for name, weight in packed.items()}
    return float((torch.func.functional_call(block, weights, (given.hidden,)) - wanted).square().mean())


@pytest.mark.parametrize("fmt", ["uint2:group32", "uint3:group32", "int4:channel"])
def test_training_gains_on_error_compensation(block: Block, given: Given, fmt: str) -> None:
    exact, packed = compensated(block, given, fmt)
    wanted = block(given.hidden).detach()
    found = Distillation().train(block, exact, packed, given, wanted)
    assert {name: weight.format for name, weight in found.items()} == {name: Format.parse(fmt) for name in packed}
    assert error(block, given, found, wanted) < GAIN * error(block, given, packed, wanted)


def test_training_that_gains_nothing_leaves_the_codes(block: Block, given: Given) -> None:
    exact, packed = compensated(block, given, "uint4:group32")
    wanted = block(given.hidden).detach()
    wild = Distillation(steps=2, rates=Rates(scales=1e-3, places=10.0))
    assert wild.train(block, exact, packed, given, wanted) == packed
