"""The noise of each format, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eqnet.search.noise import quantization_noise
from tests.search.small import points, small_supernet, small_task

HISTOGRAM = 0.02
"""Inputs are seen through a histogram of 4096 bins, which adds error of its own to that of eight bits."""


def test_it_is_the_relative_squared_error() -> None:
    task = small_task()
    supernet = small_supernet(task, "w=2,4,8:tensor,channel:sym,asym a=2,4,8:asym edge=none")
    x = points(256, 0).tensors[0]
    noise = quantization_noise(supernet, [x[:100], x[100:]])
    with torch.no_grad():
        layers = list(supernet.elastic.values())
        inputs = [x, supernet.model[:2](x), supernet.model[:4](x), supernet.model[:6](x)]
        for i, (tied, layer, seen) in enumerate(zip(supernet.space.sets, layers, inputs, strict=True)):
            for j, choice in enumerate(tied.choices):
                assert choice.activation is not None
                assert layer.input_quantizer is not None
                for found, values, rounded in (
                    (noise.weight[i][j], layer.weight, layer.weight_quantizer(layer.weight, choice.weight)),
                    (noise.activation[i][j], seen, layer.input_quantizer(seen, choice.activation)),
                ):
                    exact, error = values.double().numpy(), (rounded - values).double().numpy()
                    expected = (error**2).sum() / (exact**2).sum()
                    assert found == pytest.approx(expected, rel=HISTOGRAM, abs=1e-6)


def test_each_bit_takes_about_three_quarters_of_it_away() -> None:
    supernet = small_supernet(small_task(), "w=2-8:channel:sym a=8:asym edge=none")
    noise = quantization_noise(supernet, [points(256, 0).tensors[0]])
    for table in noise.weight:
        assert (np.diff(table) < 0).all()
        assert 0.15 < (table[-1] / table[0]) ** (1 / 6) < 0.35


def test_weight_only_formats_have_no_noise_of_inputs() -> None:
    supernet = small_supernet(small_task(), "w=2-8:channel:sym a=float edge=none")
    noise = quantization_noise(supernet, [points(64, 0).tensors[0]])
    assert all((table == 0).all() for table in noise.activation)


def test_it_leaves_the_supernet_as_it_was() -> None:
    supernet = small_supernet(small_task())
    subnet = supernet.space.nearest(supernet.space.sets[0].choices[0])
    supernet.activate(subnet)
    supernet.train()
    before = supernet.fingerprint()
    quantization_noise(supernet, [points(64, 0).tensors[0]])
    assert supernet.active == subnet
    assert supernet.training
    assert supernet.fingerprint() == before
    assert all(layer.observer is None for layer in supernet.elastic.values())
