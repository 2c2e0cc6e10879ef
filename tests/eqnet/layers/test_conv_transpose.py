"""The matrix of a transposed convolution, whose output channels are not the first dimension of its weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import eqnet
from eqnet import Choices
from eqnet.layers.conv_transpose import ElasticConvTranspose1d


def test_the_matrix_gathers_the_inputs_of_each_output_from_its_group() -> None:
    layer = nn.ConvTranspose1d(4, 6, 2, groups=2)  # weight [4 inputs, 3 outputs of the group, 2]
    weight = layer.weight.detach().numpy()
    matrix = ElasticConvTranspose1d.to_matrix(layer, layer.weight).detach().numpy()
    for output in range(6):
        group, member = divmod(output, 3)
        expected = [weight[i, member, k] for i in (2 * group, 2 * group + 1) for k in range(2)]
        assert np.array_equal(matrix[output], expected)


def test_it_is_the_gradient_of_the_convolution_with_the_same_quantized_weight(generator: torch.Generator) -> None:
    x = torch.randn(2, 4, 5, 5, generator=generator)
    made = eqnet.elasticize(
        nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False),
        Choices.parse("w=3:group5:asym a=float edge=none"),
        x,
    )
    made.calibrate([x])
    made.activate(made.space.subnet([0]))
    weight = made.elastic[""].quantized_weight().detach()
    forward = torch.zeros(2, 6, 9, 9, requires_grad=True)
    nn.functional.conv2d(forward, weight, stride=2, padding=1, groups=2).backward(x)
    assert forward.grad is not None
    assert torch.allclose(made(x), forward.grad, atol=1e-5), "sums of 18 terms in another order"


@pytest.mark.parametrize("size", [[9, 9], [10, 10]], ids=["smallest", "largest"])
def test_it_takes_an_output_size(size: list[int], generator: torch.Generator) -> None:
    plain = nn.ConvTranspose2d(2, 2, 3, stride=2)
    x = torch.randn(1, 2, 4, 4, generator=generator)
    made = eqnet.elasticize(nn.Sequential(plain), Choices.parse("w=8:tensor:sym a=8:asym edge=none"), x)
    assert torch.equal(made.elastic["0"](x, output_size=size), plain(x, output_size=size))
    with pytest.raises(ValueError, match="output size"):
        made.elastic["0"](x, output_size=[11, 11])
