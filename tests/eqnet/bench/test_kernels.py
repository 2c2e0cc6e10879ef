"""The sweep over widths and group sizes."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from eqnet.bench import kernels
from eqnet.bench.kernels import random_weight, sweep

ROWS, COLS = 33, 200
"""Neither is a multiple of a panel or a group."""


@pytest.mark.parametrize("group", [32, 128, 0])
@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_random_weights_take_every_code_and_are_finite(bits: int, group: int) -> None:
    weight = random_weight((64, 256), bits, group)
    assert weight.integers().unique().numel() == 2**bits
    assert torch.isfinite(weight.dequantize()).all()
    assert weight.dequantize().std() > 0


def test_every_kernel_is_timed_once_and_its_figures_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "COLD_BYTES", 1 << 14)
    monkeypatch.setattr(kernels, "BLOCK", 0)
    monkeypatch.setattr("eqnet.bench.roofline.MEMORY_BYTES", 1 << 20)
    monkeypatch.setattr("eqnet.bench.roofline.AT_ONCE", 1 << 20)
    monkeypatch.setattr("eqnet.bench.roofline.REPEATS", 800)
    told: list[tuple[int, int]] = []
    found = sweep((ROWS, COLS), [1], 0, lambda _, done, total: told.append((done, total)))
    cases = list(itertools.product([1], range(2, 9), (32, 128, 0), ("decode", "prefill"), ("float", "int8")))
    assert [(k.threads, k.bits, k.group, k.stage, k.compute) for k in found.kernels] == cases
    assert told == [(done, 21) for done in range(22)]
    limits = found.limits[1]
    for kernel in found.kernels:
        samples = 1 if kernel.stage == "decode" else 64
        groups = math.ceil(COLS / kernel.group) if kernel.group else 1
        planes = sum(math.ceil(ROWS * COLS * width / 8) for width in (8, 4, 2, 1) if kernel.bits & width)
        nbytes, operations = planes + 2 * ROWS * groups, 2 * samples * ROWS * COLS
        assert kernel.seconds > 0
        assert kernel.bytes_per_second * kernel.seconds == pytest.approx(nbytes)
        assert kernel.operations_per_second * kernel.seconds == pytest.approx(operations)
        reading = nbytes / limits["memory" if kernel.stage == "decode" else "cache"]
        assert kernel.roofline == pytest.approx(max(reading, operations / limits[kernel.compute]) / kernel.seconds)
