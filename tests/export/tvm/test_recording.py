"""What is recorded of a network: operations, their inputs, and the sizes of all values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eqnet.export.tvm.recording import Add, Bound, Concatenate, Convolve, Flatten, Pooled, Recorder, Size, record
from eqnet.runtime import UnsupportedError
from eqnet.runtime.builder import Pool
from tests.eqnet.runtime.networks import Formats, packed

W8A8 = Formats.parse("int8:channel × uint8:tensor")


class Everything(nn.Module):
    """One operation of each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3, stride=(2, 1), padding=(1, 2)), nn.Conv2d(6, 6, 1)
        self.last = nn.Linear(12 * 2 * 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.first(x))  # 5 by 8
        y = F.relu(self.second(x) + x)
        y = torch.cat([y, F.relu(x)], 1)
        y = F.max_pool2d(y + y, (2, 3), padding=(0, 1))  # 2 by 3
        logits: Tensor = self.last(y.flatten(1))
        return logits


def test_operations_in_order(generator: torch.Generator) -> None:
    recording = record(packed(Everything(), W8A8, generator), torch.zeros(2, 3, 9, 6))
    assert [(type(operation), operation.inputs) for operation in recording.operations] == [
        (Convolve, (0,)),
        (Convolve, (1, 1)),
        (Bound, (1,)),
        (Concatenate, (2, 3)),
        (Add, (4, 4)),
        (Pooled, (5,)),
        (Flatten, (6,)),
        (Convolve, (7,)),
    ]
    assert [operation.bounds for operation in recording.operations[:4]] == [
        (0, 6),
        (0, math.inf),
        (0, math.inf),
        (-math.inf, math.inf),
    ]
    assert recording.sizes == (
        *[(3, 9, 6), (6, 5, 8), (6, 5, 8), (6, 5, 8), (12, 5, 8), (12, 5, 8), (12, 2, 3), (72, 1, 1), (5, 1, 1)],
    )
    assert (recording.result, recording.vector) == (8, True)


def test_an_image_as_the_result(generator: torch.Generator) -> None:
    recording = record(packed(nn.Sequential(nn.Conv2d(3, 4, 2)), W8A8, generator), torch.zeros(1, 3, 5, 4))
    assert (recording.sizes[-1], recording.vector) == ((4, 4, 3), False)


def test_a_vector_is_an_image_of_one_pixel(generator: torch.Generator) -> None:
    recording = record(packed(nn.Sequential(nn.Linear(7, 4)), W8A8, generator), torch.zeros(1, 7))
    assert recording.sizes == ((7, 1, 1), (4, 1, 1))


def test_whole_images_are_pooled_to_one_pixel() -> None:
    recorder = Recorder(Size(3, 8, 9))
    recorder.pool(0, Pool(maximum=False, whole_image=True), (-1.0, 1.0))
    assert recorder.sizes[1] == (3, 1, 1)


def test_sums_that_do_not_fit_are_refused(generator: torch.Generator) -> None:
    model = packed(nn.Sequential(nn.Linear(32769, 1)), W8A8, generator)
    with pytest.raises(UnsupportedError, match="32769 inputs; sums in 32 bits hold 32768"):
        record(model, torch.zeros(1, 32769))
