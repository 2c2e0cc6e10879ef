"""The built-in networks have the shapes of their papers and can be made elastic whole."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from eqnet.conversion import elasticize
from eqnet.tasks.networks import DigitsNet, InvertedResidual, MobileNet, ResidualBlock, ResNet


def weights(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters() if p.ndim > 1)


@pytest.mark.parametrize("blocks", [1, 3])
def test_the_residual_network_has_6n_plus_2_layers_beside_its_shortcuts(blocks: int) -> None:
    network = ResNet(blocks, channels=3)
    layers = [name for name, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len([name for name in layers if "short" not in name]) == 6 * blocks + 2
    assert len([name for name in layers if "short" in name]) == 2  # where the width doubles
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_networks_have_the_expected_number_of_weights() -> None:
    # ResNet: 9·16 + 2·9·16² + 9·16·32 + 9·32² + 16·32 + 9·32·64 + 9·64² + 32·64 + 64·10
    assert weights(ResNet()) == 77_072
    # MobileNet: 9·12 + Σ 4·c_in·(c_in + 9 + c_out) + 32·96 + 96·10
    assert weights(MobileNet()) == 25_836
    assert 20_000 < weights(DigitsNet()) < 60_000


@pytest.mark.parametrize(("build", "side", "layers"), [(ResNet, 28, 10), (MobileNet, 28, 18), (DigitsNet, 8, 10)])
def test_every_layer_becomes_elastic(build: type[nn.Module], side: int, layers: int) -> None:
    network, images = build(), torch.randn(2, 1, side, side)
    supernet = elasticize(network, example_inputs=images)
    assert len(supernet.space.layers) == layers
    assert not supernet.left_alone
    assert network(images).shape == (2, 10)


def test_blocks_keep_their_input_where_shapes_allow_it() -> None:
    x = torch.randn(2, 8, 5, 5)
    for block in (ResidualBlock(8, 8), InvertedResidual(8, 8, 1)):
        for p in block.parameters():
            nn.init.zeros_(p)
        expected = x.relu() if isinstance(block, ResidualBlock) else x
        torch.testing.assert_close(block.eval()(x), expected, rtol=0, atol=0)
    assert ResidualBlock(8, 12, 2)(x).shape == InvertedResidual(8, 12, 2)(x).shape == (2, 12, 3, 3)
