"""Where scales start: the range of least p = 2.4 error."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from eqnet import Format, Granularity, ModelError
from eqnet.ranges import BINS, Histogram, search_range

P = 2.4
WORSE = 1.03
"""The search may lose this much to a far finer one by brute force: its error is flat around the best range."""


def error(
    x: NDArray[np.float64],
    scale: float,
    zero_point: float,
    fmt: Format,
    counts: NDArray[np.float64] | float = 1.0,
) -> float:
    lowest, highest = (-(2 ** (fmt.bits - 1)), 2 ** (fmt.bits - 1) - 1) if fmt.symmetric else (0, 2**fmt.bits - 1)
    codes = np.clip(np.rint(x / scale) + zero_point, lowest, highest)
    return float((counts * np.abs((codes - zero_point) * scale - x) ** P).sum())


def brute_force(x: NDArray[np.float64], fmt: Format) -> float:
    """The least error over 600 ranges and every zero point."""
    highest = 2 ** (fmt.bits - 1) - 1 if fmt.symmetric else 2**fmt.bits - 1
    widest = np.abs(x).max() / (2 ** (fmt.bits - 1) - 1) if fmt.symmetric else np.ptp(np.append(x, 0)) / highest
    zero_points = [0] if fmt.symmetric else range(2**fmt.bits)
    return min(
        error(x, widest * fraction, zero, fmt) for fraction in np.linspace(0.02, 1.1, 600) for zero in zero_points
    )


DISTRIBUTIONS = {
    "normal": lambda rng: rng.normal(size=200),
    "heavy tails": lambda rng: rng.standard_t(2, size=200),
    "after a ReLU": lambda rng: np.maximum(rng.normal(size=200), 0),
    "far from zero": lambda rng: rng.normal(5, 1, size=200),
    "negative": lambda rng: -rng.exponential(size=200),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("fmt", [Format(b, s) for b in (2, 3, 4) for s in (True, False)], ids=str)
def test_the_search_is_as_good_as_brute_force(name: str, fmt: Format) -> None:
    x = DISTRIBUTIONS[name](np.random.default_rng(0)).astype(np.float32)
    scale, zero_point = search_range(torch.from_numpy(x)[None], fmt)
    found = error(x.astype(np.float64), scale.item(), zero_point.item(), fmt)
    assert found <= WORSE * brute_force(x.astype(np.float64), fmt) + 1e-6


OUTLIERS = {
    "one of 100 deviations": lambda rng: np.append(rng.normal(size=100_000), 100),
    "ten below": lambda rng: np.append(rng.normal(size=100_000), [-60] * 10),
    "one above a ReLU": lambda rng: np.append(np.maximum(rng.normal(size=100_000), 0), 30),
    "heavy tails": lambda rng: rng.standard_t(3, size=100_000),
}


@pytest.mark.parametrize("name", OUTLIERS)
@pytest.mark.parametrize("fmt", [Format(b, s) for b in (2, 3, 4) for s in (True, False)], ids=str)
def test_rare_outliers_are_clipped_as_by_brute_force(name: str, fmt: Format) -> None:
    """The best range is a small part of the full one: a fiftieth for 2 bits, one value of 100 and the rest about 1."""
    histogram = Histogram()
    histogram.add(torch.from_numpy(OUTLIERS[name](np.random.default_rng(0)).astype(np.float32)))
    x, counts = (t[histogram.counts > 0] for t in (histogram.centers, histogram.counts))
    scale, zero_point = search_range(x[None], fmt, counts[None])
    values, weights = x.double().numpy(), counts.double().numpy()
    found = error(values, scale.item(), zero_point.item(), fmt, weights)
    full = (np.abs(values).max() if fmt.symmetric else np.ptp(np.append(values, 0))) / fmt.qmax
    zero_points = [0] if fmt.symmetric else range(2**fmt.bits)
    fractions = np.geomspace(0.005, 1, 80)
    best = min(error(values, full * f, zero, fmt, weights) for f in fractions for zero in zero_points)
    assert found <= WORSE * best


@pytest.mark.parametrize("fmt", [Format(8, True), Format(8, False)], ids=str)
def test_eight_bits_lose_less_than_half_a_step_of_the_full_range(fmt: Format, generator: torch.Generator) -> None:
    x = torch.randn(1, 1000, generator=generator)
    scale, zero_point = search_range(x, fmt)
    full = float(2 * x.abs().max() if fmt.symmetric else x.max() - x.min()) / 255
    bound = 1000 * (full / 2) ** P
    assert error(x[0].double().numpy(), scale.item(), zero_point.item(), fmt) < bound


@pytest.mark.parametrize(
    ("granularity", "size"),
    [(Granularity.CHANNEL, 0), (Granularity.GROUP, 8), (Granularity.GROUP, 7), (Granularity.GROUP, 64)],
    ids=["channel", "groups of 8", "short last group", "one group"],
)
@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "asymmetric"])
def test_each_channel_and_group_is_searched_alone(
    granularity: Granularity, size: int, symmetric: bool, generator: torch.Generator
) -> None:
    x = torch.randn(3, 24, generator=generator) * torch.tensor([1e-2, 1.0, 50.0])[:, None]
    scales, zero_points = search_range(x, Format(4, symmetric, granularity, size))
    width = size or 24
    for row in range(3):
        for group in range(scales.shape[1]):
            part = x[row : row + 1, group * width : (group + 1) * width]
            scale, zero_point = search_range(part, Format(4, symmetric))
            assert scales[row, group] == scale[0, 0]
            assert zero_points[row, group] == zero_point[0, 0]


def test_counts_weigh_like_repeated_values() -> None:
    values = torch.tensor([[-1.0, 0.2, 0.5, 3.0]])
    counts = torch.tensor([[5.0, 40.0, 30.0, 1.0]])
    repeated = values[0].repeat_interleave(counts[0].long())[None]
    for fmt in (Format(2, True), Format(3, False)):
        weighted, once = search_range(values, fmt, counts), search_range(repeated, fmt)
        assert weighted[0].item() == pytest.approx(once[0].item(), rel=1e-6)
        assert weighted[1].item() == once[1].item()


def test_a_large_tensor_is_searched_through_its_histogram(generator: torch.Generator) -> None:
    x = torch.randn(1, 40 * BINS, generator=generator)
    for fmt in (Format(4, True), Format(4, False)):
        scale, zero_point = search_range(x, fmt)
        few, few_zero = search_range(x[:, : 2 * BINS], fmt)  # searched value by value
        assert scale.item() == pytest.approx(few.item(), rel=0.1)
        assert abs(zero_point - few_zero).item() <= 1


def test_a_histogram_counts_every_value_as_its_range_grows(generator: torch.Generator) -> None:
    parts = [torch.randn(500, generator=generator) * factor for factor in (0.1, 1.0, 5.0)]
    histogram = Histogram()
    for part in [*parts, torch.empty(0)]:
        histogram.add(part)
    values = torch.cat(parts)
    assert histogram.counts.sum().item() == pytest.approx(1500)
    assert (histogram.low, histogram.high) == pytest.approx((values.min().item(), values.max().item()))
    width = (histogram.high - histogram.low) / BINS
    mean = (histogram.centers * histogram.counts).sum().item() / 1500
    assert mean == pytest.approx(values.mean().item(), abs=width)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")], ids=str)
def test_a_histogram_refuses_what_is_not_finite(bad: float) -> None:
    with pytest.raises(ModelError, match="inf or NaN"):
        Histogram().add(torch.tensor([0.0, bad]))
