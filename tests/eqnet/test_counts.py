"""What a supernet's space counts, by hand: products and inputs of layers, and bytes that stay in floating point."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import eqnet
from eqnet import Choices


def test_counts_of_a_convolution_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5)
    )
    conv, linear = eqnet.elasticize(model, None, torch.zeros(2, 3, 6, 6)).space.layers
    assert (conv.rows, conv.cols, conv.macs, conv.inputs) == (4, 27, 4 * 27 * 36, 3 * 36)
    assert conv.has_bias, "the batch norm folds into one"
    assert (linear.rows, linear.cols, linear.macs, linear.inputs) == (5, 144, 5 * 144, 144)


def test_depthwise_layers_are_told_from_other_convolutions() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),  # one input channel, but no groups
        nn.Conv2d(4, 8, 3, groups=4),
        nn.Conv2d(8, 8, 3, groups=4),
        nn.ConvTranspose2d(8, 8, 2, groups=8),
        nn.Flatten(),
        nn.Linear(8 * 3 * 3, 2),
    )
    space = eqnet.elasticize(model, Choices(), torch.randn(2, 1, 8, 8)).space
    assert [layer.depthwise for layer in space.layers] == [False, True, False, True, False]


def test_bytes_in_floating_point_by_hand() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.folded = nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4)
            self.alone = nn.BatchNorm2d(4)
            self.scale = nn.Parameter(torch.ones(3, dtype=torch.float64))
            self.again = self.scale
            self.register_buffer("table", torch.zeros(5, dtype=torch.int16))
            self.register_buffer("mask", torch.zeros(1000), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.alone(self.folded(self.conv(x)).relu())

    space = eqnet.elasticize(Parts(), None, torch.zeros(1, 2, 3, 3)).space
    # A scale and a shift of the batch norm that stays, the parameter once, the table; the mask is made anew.
    assert space.float_bytes == 4 * (4 + 4) + 3 * 8 + 5 * 2


def test_a_weight_that_a_layer_in_floating_point_shares_counts_as_both() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(5, 3, max_norm=1.0), nn.Linear(3, 5, bias=False)
            self.head.weight = self.table.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.table(x))

    made = eqnet.elasticize(Shared(), None, torch.zeros(1, 2, dtype=torch.long))
    assert list(made.left_alone) == ["table"]
    assert made.space.float_bytes == 4 * 5 * 3


def test_batch_norms_that_are_no_scale_and_shift_count_as_they_are() -> None:
    class Halved(nn.BatchNorm1d):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) / 2

    model = nn.Sequential(
        nn.Linear(4, 4), Halved(4), nn.BatchNorm1d(4, track_running_stats=False),
        nn.BatchNorm1d(4, affine=False, track_running_stats=False), nn.BatchNorm1d(4, affine=False),
    )  # fmt: skip
    made = eqnet.elasticize(model, None, torch.rand(2, 4))
    assert not made.folded
    # Weight, bias, mean, variance and a counter; weight and bias; nothing; a scale and a shift.
    assert made.space.float_bytes == 4 * (4 * 4) + 8 + 4 * (2 * 4) + 4 * (2 * 4)


def test_a_batch_norm_folds_by_name_unless_the_weight_is_shared() -> None:
    model = nn.Sequential(
        nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4), nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4),
        nn.Linear(4, 4, bias=False),
    )  # fmt: skip
    apart = eqnet.elasticize(model, None, torch.rand(2, 4))
    assert apart.folded == {"1": "0", "3": "2"}
    assert [(layer.folded, layer.has_bias) for layer in apart.space.layers] == [
        (True, True),
        (True, True),
        (False,) * 2,
    ]
    model[4].weight = model[2].weight
    shared = eqnet.elasticize(model, None, torch.rand(2, 4))
    assert shared.folded == {"1": "0"}
    assert [(layer.folded, layer.has_bias) for layer in shared.space.layers] == [
        (True, True),
        (False,) * 2,
        (False,) * 2,
    ]
    assert shared.space.float_bytes == 4 * (2 * 4)
