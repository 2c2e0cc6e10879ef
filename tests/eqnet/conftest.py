"""Fixtures of the core's tests."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from eqnet.formats import Format

ByHand = Callable[[NDArray[np.float32], Format, NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]


@pytest.fixture(scope="session")
def by_hand() -> ByHand:
    """Quantizes and dequantizes element by element, as the arithmetic is written down, in float32."""

    def quantize(
        x: NDArray[np.float32], fmt: Format, scale: NDArray[np.float32], zero_point: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """``x`` [rows, cols]; ``scale`` and ``zero_point`` are [1 or rows, groups]."""
        result = np.empty_like(x)
        lowest, highest = (-(2 ** (fmt.bits - 1)), 2 ** (fmt.bits - 1) - 1) if fmt.symmetric else (0, 2**fmt.bits - 1)
        for row in range(x.shape[0]):
            for column in range(x.shape[1]):
                index = row if len(scale) > 1 else 0, column // fmt.group_size if fmt.group_size else 0
                zero = int(np.clip(np.rint(zero_point[index]), lowest, highest))
                code = int(np.clip(np.rint(x[row, column] / scale[index]) + zero, lowest, highest))
                result[row, column] = np.float32(code - zero) * scale[index]
        return result

    return quantize
