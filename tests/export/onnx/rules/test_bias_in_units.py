"""Whole biases with which sums keep their codes, tried on every sum that can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from eqnet.export.onnx.rules.bias_in_units import Codes, Fitted, Sums, fit

Array = np.ndarray[Any, Any]

ROWS, LARGEST = 64, 900


def sums(shift: int, seed: int) -> Sums:
    """Those of channels with scales of both signs, and biases that are no multiples of anything."""
    rng = np.random.default_rng(seed)
    unit = rng.uniform(0.5, 2, ROWS) * rng.choice([-1, 1], ROWS) * 1e-3 / (1 << shift)
    low, high = -rng.integers(1, LARGEST, ROWS), rng.integers(1, LARGEST, ROWS)
    return Sums(low, high, shift, unit, np.ones(1, np.float32), rng.normal(0, 0.3, ROWS))


def rounded(row: int, given: Sums, codes: Codes, unit: float, bias: float) -> Array:
    """The codes of all sums of a channel, in float64."""
    every = np.arange(given.low[row], given.high[row] + 1) * (1 << given.shift)
    return np.clip(np.rint((every * unit + bias) / codes.scale) + codes.zero_point, codes.low, codes.high)


def in_the_kernel(row: int, given: Sums, codes: Codes, fitted: Fitted) -> Array:
    """What an integer kernel makes of them: the bias as a whole number, and one factor in float32."""
    scale = np.broadcast_to(fitted.scale, (ROWS,))[row]
    every = np.arange(given.low[row], given.high[row] + 1) * (1 << given.shift)
    whole = np.rint(np.float32(fitted.bias[row]) / scale)
    scaled = (every + whole).astype(np.float32) * np.float32(scale / np.float32(codes.scale))
    return np.clip(np.rint(scaled) + codes.zero_point, codes.low, codes.high)


CASES = {
    "2 bits": (3, 0, 1),
    "3 bits, in the middle": (7, 4, 3),
    "4 bits": (15, 0, 4),
    "4 bits, after a ReLU": (15, 3, 4),
}


@pytest.mark.parametrize("case", CASES)
def test_every_sum_keeps_its_code(case: str) -> None:
    high, zero, shift = CASES[case]
    codes = Codes(0.02, zero, zero if "ReLU" in case else 0, high)
    given = sums(shift, len(case))
    fitted = fit(given, codes, free=True)
    assert fitted.kept.mean() > 0.8
    plain = Fitted(given.unit.astype(np.float32), given.bias.astype(np.float32), fitted.kept)
    changed = 0
    for row in range(ROWS):
        expected = rounded(row, given, codes, given.unit[row], given.bias[row])
        if fitted.kept[row]:
            np.testing.assert_array_equal(in_the_kernel(row, given, codes, fitted), expected)
            assert abs(fitted.scale[row] / given.unit[row] - 1) < 0.021, "scales stay near what they were"
        changed += (in_the_kernel(row, given, codes, plain) != expected).any()
    assert changed > 0, "codes do change if biases are just rounded"


def test_a_scale_for_all_channels_stays_and_what_cannot_be_kept_does() -> None:
    codes = Codes(0.005, 0, 0, 63)
    given = sums(1, 3)
    given = Sums(given.low, given.high, 1, np.full(ROWS, 4e-4), given.input_scale, given.bias)
    fitted = fit(given, codes, free=False)
    assert fitted.scale.shape == ()
    assert fitted.scale == np.float32(4e-4)
    assert 0 < fitted.kept.sum() < ROWS
    np.testing.assert_array_equal(fitted.bias[~fitted.kept], given.bias[~fitted.kept].astype(np.float32))
    for row in np.flatnonzero(fitted.kept):
        expected = rounded(row, given, codes, given.unit[row], given.bias[row])
        np.testing.assert_array_equal(in_the_kernel(row, given, codes, fitted), expected)
