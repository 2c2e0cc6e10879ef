"""The weights of a convolution, in the order of the functions that read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from eqnet.runtime.convolution import Parameters

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Weights:
    """Codes and what they mean, by output channel.

    Attributes:
        bits: of a code.
        codes: as they are stored, from 0, uint8 [out_channels, inputs of one output].
        zero: the zero point of each scale, counted alike, uint8 [out_channels, scales].
        multiplier: what turns a sum of products of integers into a result, float32 [out_channels, scales].
        sums: of the weights that share a scale, less the zero point, int32 [out_channels, scales].
        group_size: consecutive inputs that share a scale.
        bias: float32 [out_channels].
    """

    bits: int
    codes: npt.NDArray[np.uint8]
    zero: npt.NDArray[np.uint8]
    multiplier: npt.NDArray[np.float32]
    sums: npt.NDArray[np.int32]
    group_size: int
    bias: npt.NDArray[np.float32]

    @property
    def scales(self) -> int:
        """Of one output channel."""
        return int(self.zero.shape[1])

    @property
    def symmetric(self) -> bool:
        """Whether all zero points are in the middle of the codes."""
        return bool((self.zero == 1 << (self.bits - 1)).all())


def weights_of(parameters: Parameters) -> Weights:
    """Those of one convolution."""
    stored, fmt = parameters.stored, parameters.stored.format
    shape = tuple(parameters.scale.shape)
    integers = parameters.weight.numpy().astype(np.int32)
    size = min(parameters.group_size, integers.shape[1])
    sums = np.add.reduceat(integers, np.arange(0, integers.shape[1], size), axis=1)
    return Weights(
        bits=fmt.bits,
        codes=(stored.integers() - fmt.qmin).numpy().astype(np.uint8),
        zero=np.broadcast_to((stored.zero_points() - fmt.qmin).numpy().astype(np.uint8), shape),
        multiplier=parameters.scale.numpy() * np.float32(parameters.input_scale),
        sums=sums.astype(np.int32),
        group_size=size,
        bias=parameters.bias.numpy(),
    )


def in_panels(by_channel: npt.NDArray[Scalar], lanes: int, panels: int) -> npt.NDArray[Scalar]:
    """[out_channels, ...] as [panels, lanes, ...], with zeros for the channels that are missing."""
    result = np.zeros((panels * lanes, *by_channel.shape[1:]), by_channel.dtype)
    result[: len(by_channel)] = by_channel
    return result.reshape(panels, lanes, *by_channel.shape[1:])
