"""What is an error in a layer, and what is rounding."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from eqnet.deploy.comparing.layers import LayerFigures, LayerSums, layer_record
from eqnet.formats import Format
from eqnet.packed.record import LayerRecord, Record
from eqnet.runtime.runner import ResultCodes

CONV = LayerRecord("Conv2d", Format.parse("int4:channel"), None, (6, 3, 3, 3), torch.float32)
LINEAR = LayerRecord("Linear", Format.parse("int4:channel"), None, (6, 9), torch.float32)


def _compared(a: Tensor, b: Tensor, record: LayerRecord | None, codes: ResultCodes | None = None) -> LayerFigures:
    sums = LayerSums("layer", record, codes)
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


def test_results_held_as_codes_may_be_one_step_off_within_their_range(images: Tensor) -> None:
    low, high = images.amin((0, 2, 3)).clamp(max=0), images.amax((0, 2, 3)) / 2
    step = (high - low) / 255
    codes = ResultCodes(low, high, step)
    shape = (6, 1, 1)
    held = (images / step.view(shape)).round() * step.view(shape)
    held = held.clamp(low.view(shape), high.view(shape))
    assert _compared(images, held, CONV).departs
    assert not _compared(images, held, CONV, codes).departs
    assert not _compared(held, images, CONV, codes).departs
    assert _compared(images, 1.1 * held, CONV, codes).departs


def test_what_follows_an_activation_is_given_it(images: Tensor) -> None:
    one = torch.ones(1)
    assert LayerSums("a", CONV, ResultCodes(0 * one, 255 * one, one)).given(images).equal(images.relu())
    assert LayerSums("a", CONV, ResultCodes(-one, 254 * one, one)).given(images).equal(images)
    assert LayerSums("a", CONV).given(images).equal(images)


def test_record_is_that_of_whichever_network_has_one() -> None:
    assert layer_record("fc#2", None, Record({"fc": LINEAR})) is LINEAR
    assert layer_record("conv", Record({"fc": LINEAR}), None) is None
