"""What is an error in a layer, and what is rounding."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from eqnet.deploy.comparing.layers import LayerFigures, LayerSums, layer_record
from eqnet.formats import Format
from eqnet.packed.record import LayerRecord, Record

CONV = LayerRecord("Conv2d", Format.parse("int4:channel"), None, (6, 3, 3, 3), "float32")
LINEAR = LayerRecord("Linear", Format.parse("int4:channel"), None, (6, 9), "float32")


def _compared(a: Tensor, b: Tensor, record: LayerRecord | None, approximate: bool = False) -> LayerFigures:
    sums = LayerSums("layer", record, approximate)
    for first in range(0, len(a), 5):
        sums.add(a[first : first + 5], b[first : first + 5])
    return sums.figures


@pytest.fixture
def images(generator: torch.Generator) -> Tensor:
    """[N, channels, height, width], of channels that differ a thousandfold."""
    return torch.randn(32, 6, 7, 5, generator=generator) * torch.logspace(-3, 0, 6).view(6, 1, 1)


def test_equal_results_do_not_differ(images: Tensor) -> None:
    found = _compared(images, images.clone(), CONV)
    assert (found.figures.largest, found.figures.relative, found.differing) == (0, 0, 0)
    assert found.figures.cosine == pytest.approx(1, abs=1e-12)
    assert not found.departs


def test_figures_are_those_over_all_batches(images: Tensor, generator: torch.Generator) -> None:
    other = images + 0.01 * torch.randn(images.shape, generator=generator)
    found = _compared(images, other, CONV).figures
    a, b = images.double().flatten(), other.double().flatten()
    assert found.largest == (a - b).abs().max().item()
    assert found.relative == pytest.approx(((a - b).norm() / a.norm()).item())
    assert found.cosine == pytest.approx(torch.nn.functional.cosine_similarity(a, b, 0).item())


@pytest.mark.parametrize("factor", [1.05, 0.9, -1.0, 2.0, 0.0, float("nan")], ids=str)
@pytest.mark.parametrize("channel", [0, 5])
def test_wrong_scale_of_one_channel_departs(images: Tensor, channel: int, factor: float) -> None:
    wrong = images.clone()
    wrong[:, channel] *= factor
    assert _compared(images, wrong, CONV).departs


def test_wrong_bias_of_one_channel_departs_in_a_linear_layer(generator: torch.Generator) -> None:
    results = torch.randn(40, 6, generator=generator)
    wrong = results.clone()
    wrong[:, 2] += 0.1
    found = _compared(results, wrong, LINEAR)
    assert found.differing == 1
    assert found.departs


def test_scales_rounded_to_16_bits_do_not_depart(images: Tensor) -> None:
    scales = torch.linspace(0.7, 1.3, 6).view(6, 1, 1)
    assert not _compared(images * scales, images * scales.half().float(), CONV).departs


def test_codes_on_the_other_side_of_a_tie_do_not_depart(images: Tensor) -> None:
    """One wrong code in each input moves the results of a kernel of 3 by 3 around it, by much, in every channel."""
    moved = images.clone()
    for i in range(0, len(moved), 8):
        moved[i, :, 2:5, 1:4] += moved[i, :, 2:5, 1:4].abs().amax()
    found = _compared(images, moved, CONV)
    assert 0 < found.differing < 0.05
    assert not found.departs


def test_channel_of_zeros_departs_only_if_it_is_none_any_more(images: Tensor) -> None:
    images[:, 3] = 0
    noisy = images.clone()
    noisy[:, 3] += 1e-7
    assert not _compared(images, noisy, CONV).departs, "32-bit rounding of terms that cancel"
    noisy[:, 3] += 0.01
    assert _compared(images, noisy, CONV).departs
    nothing = torch.zeros(4, 6, 2, 2)
    assert not _compared(nothing, nothing, CONV).departs
    assert _compared(nothing, nothing + 1e-6, CONV).departs


@pytest.fixture
def rounded(images: Tensor) -> Tensor:
    """To 6 bits in the range of each channel, which is more than an artifact does."""
    step = (images.amax((0, 2, 3)) - images.amin((0, 2, 3))).view(6, 1, 1) / 63
    return (images / step).round() * step


def test_rounding_departs_unless_the_artifact_says_that_it_rounds(images: Tensor, rounded: Tensor) -> None:
    assert _compared(images, rounded, CONV).departs
    found = _compared(images, rounded, CONV, approximate=True)
    assert not found.departs
    assert found.differing > 0.5
    after = replace(_compared(images, rounded, CONV), unseen=("before",))
    assert not after.departs, "the rounding may be that of the layer before"


@pytest.mark.parametrize("change", [lambda y: 1.1 * y, lambda y: 0 * y, lambda y: -y, lambda y: y * torch.nan])
@pytest.mark.parametrize("channel", [3, 5])
def test_error_in_a_channel_departs_beneath_rounding(
    images: Tensor, rounded: Tensor, channel: int, change: Callable[[Tensor], Tensor]
) -> None:
    rounded[:, channel] = change(rounded[:, channel])
    assert _compared(images, rounded, CONV, approximate=True).departs


def test_fit_is_that_of_least_squares(generator: torch.Generator) -> None:
    a = torch.randn(200, 1, generator=generator) + 2
    b = 0.9 * a + 0.3 + 0.2 * torch.randn(200, 1, generator=generator)
    design = torch.cat([a, torch.ones_like(a)], 1).double()
    fitted = design @ torch.linalg.lstsq(design, (b - a).double()).solution
    size = a.double().square().mean().sqrt()
    found = _compared(a, b, LINEAR, approximate=True)
    assert found.systematic == pytest.approx((fitted.square().mean().sqrt() / size).item(), rel=1e-5)
    left = (b - a).double() - fitted
    assert found.noise == pytest.approx((left.square().mean().sqrt() / size).item(), rel=1e-5)


def test_results_that_move_about_depart_beneath_rounding(images: Tensor, generator: torch.Generator) -> None:
    other = images.clone()
    other[:, 4] = other[:, 4].flatten()[torch.randperm(other[:, 4].numel(), generator=generator)].view_as(other[:, 4])
    found = _compared(images, other, CONV, approximate=True)
    assert found.noise > 0.5
    assert found.departs


def test_record_is_that_of_whichever_network_has_one() -> None:
    assert layer_record("fc#2", None, Record({"fc": LINEAR})) is LINEAR
    assert layer_record("conv", Record({"fc": LINEAR}), None) is None
