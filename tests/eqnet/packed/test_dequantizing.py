"""A packed model in floating point again."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import eqnet
from eqnet import Choices
from eqnet.packed.dequantizing import dequantized
from eqnet.packed.layers import PackedLayer
from eqnet.packed.model import PackedModel

ROUNDING = 1e-5
"""Sums of up to 147 products in float32, in another order."""


class _Tied(nn.Module):
    """An embedding whose weight is that of the last layer, too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6, padding_idx=0)
        self.middle = nn.Linear(6, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.middle(self.embedding(x)))


def _images() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect", bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=2, groups=4),
        nn.ConvTranspose2d(4, 3, 2, stride=2, output_padding=1),
        nn.BatchNorm2d(3),
        nn.Flatten(),
        nn.BatchNorm1d(147),
        nn.Linear(147, 5),
    )


def _packed(model: nn.Module, x: Tensor, space: str) -> PackedModel:
    supernet = eqnet.elasticize(model, Choices.parse(space), x)
    supernet.calibrate([x])
    return eqnet.pack(supernet, supernet.space.subnet([0] * len(supernet.space.sets)))


@pytest.mark.parametrize("kind", ["images", "tied"])
def test_computes_what_the_packed_weights_do(kind: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8) if kind == "images" else torch.randint(0, 11, (3, 5))
    packed = _packed(_images().eval() if kind == "images" else _Tied(), x, "w=3:group4:asym a=float edge=none")
    before = packed.stored()
    floating = dequantized(packed)
    assert torch.allclose(floating(x), packed(x), rtol=0, atol=ROUNDING)
    assert not any(isinstance(module, PackedLayer) for module in floating.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in packed.stored().items())
    assert not any(parameter.requires_grad for parameter in floating.parameters())


def test_inputs_are_no_longer_rounded() -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 12)
    packed = _packed(nn.Sequential(nn.Linear(12, 7)), x, "w=4:channel:sym a=2 edge=none")
    floating = dequantized(packed)
    layer = packed.layers["0"]
    expected = x.double() @ layer.weight.dequantize().double().T + layer.bias.double()
    assert torch.allclose(floating(x).double(), expected, rtol=0, atol=ROUNDING)
    assert not torch.allclose(packed(x).double(), expected, rtol=0, atol=1000 * ROUNDING)
    assert repr(floating[0]) == repr(nn.Linear(12, 7))


def test_tied_weights_are_one_again() -> None:
    floating = dequantized(_packed(_Tied(), torch.randint(0, 11, (3, 5)), "w=4:channel:sym a=float edge=none"))
    assert floating.embedding.weight is floating.head.weight
    assert sorted(floating.state_dict()) == sorted(_Tied().state_dict())
