"""Whole networks as TIR: their answers, batches, extreme inputs, and what their constants take."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import tvm
from torch import nn
from tvm import ir, relax

from eqnet.export.tvm.tir import compile_module, tir_module
from eqnet.packed.model import PackedModel
from eqnet.runtime import UnsupportedError
from eqnet.tasks.networks import DigitsNet, MobileNet, Network, ResNet
from tests.eqnet.runtime.networks import Formats, in_float64, packed
from tests.export.tvm.tir.modules import HOST, RUNNABLE, Module, run

W8A8 = Formats.parse("int8:channel × uint8:tensor")

FLIPPED = 0.02
"""Relative to the range of the results: a few codes of thousands that went to the other side of a tie."""

NETWORKS: dict[str, tuple[type[Network], Formats, int]] = {
    "resnet": (ResNet, W8A8, 28),
    "mobilenet": (MobileNet, Formats.parse("uint4:channel × int4:tensor"), 28),
    "digits": (DigitsNet, Formats.parse("uint3:group16 × uint6:tensor"), 7),
}
"""Networks, formats, and the height and width of images."""


def without_norms(network: nn.Module) -> nn.Module:
    """The network, its batch norms left out."""
    for module in list(network.modules()):
        for leaf, child in list(module.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, leaf, nn.Identity())
    return network


@pytest.fixture(scope="module")
def module() -> Module:
    """All networks."""
    generator = torch.Generator().manual_seed(0)
    networks: dict[str, tuple[PackedModel, tuple[int, ...]]] = {}
    for name, (make, formats, size) in NETWORKS.items():
        networks[name] = packed(without_norms(make()), formats, generator), (1, size, size)
    return Module(networks, RUNNABLE[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_answers_are_those_of_the_packed_model(name: str, module: Module, generator: torch.Generator) -> None:
    model, shape = module.networks[name]
    x = torch.randn(5, *shape, generator=generator)
    with torch.no_grad():
        expected = model(x)
    result = module(name, x)
    assert ((result - expected).abs() <= FLIPPED * (expected.max() - expected.min())).all()
    for i in range(5):
        assert torch.equal(module(name, x[i : i + 1]), result[i : i + 1])


def test_no_images(module: Module) -> None:
    assert module("resnet", torch.zeros(0, 1, 28, 28)).shape == (0, 10)


def test_another_size_is_refused(module: Module) -> None:
    with pytest.raises(RuntimeError, match="mismatch"):
        module("resnet", torch.zeros(1, 1, 28, 27))


def one_convolution(weight: str, generator: torch.Generator) -> PackedModel:
    return packed(nn.Conv2d(64, 64, 3), Formats.parse(f"{weight} × uint8:tensor"), generator)


def test_inputs_far_out_of_range(generator: torch.Generator) -> None:
    model = packed(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)), W8A8, generator)
    x = torch.tensor([3e38, -3e38, torch.inf, -torch.inf]).view(4, 1, 1, 1)
    main = tvm.relax.VirtualMachine(compile_module(tir_module(model, x, HOST), HOST), tvm.cpu())["main"]
    assert torch.allclose(run(main, x).double(), in_float64(model)(x))


def constants(module: Any) -> list[Any]:
    """All constants of an IRModule."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, ir.Constant) and isinstance(node.value, tvm.runtime.Tensor):
            found.append(node.value.numpy())

    relax.analysis.post_order_visit(module["main"], visit)
    return found


@pytest.mark.parametrize("target", [HOST, tvm.target.Target("llvm")], ids=["host", "portable"])
@pytest.mark.parametrize("bits", [2, 3, 4, 7, 8])
def test_weights_take_their_bits(bits: int, target: Any, generator: torch.Generator) -> None:
    module = tir_module(one_convolution(f"uint{bits}:channel", generator), torch.zeros(1, 64, 9, 9), target)
    by_size = sorted((x.nbytes for x in constants(module)), reverse=True)
    assert by_size[0] == 64 * 64 * 9 * bits // 8
    # What else there is: by channel a multiplier, a start, a bias, and zero points; ones for sums of inputs.
    assert sum(by_size[1:]) <= 64 * 18 + 64 * 9 + 32


def test_what_is_unsupported_is_named(generator: torch.Generator) -> None:
    model = packed(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sigmoid()), W8A8, generator)
    with pytest.raises(UnsupportedError, match=r"layer '1' \(Sigmoid\)"):
        tir_module(model, torch.zeros(1, 1, 4, 4), HOST)
