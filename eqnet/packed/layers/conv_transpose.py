"""Packed transposed convolutions, 1-D to 3-D."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from eqnet.packed.layers.base import PackedLayer, packs


class PackedConvTranspose(PackedLayer):
    """What transposed convolutions of 1 to 3 dimensions share; the hyperparameters are those of torch's classes."""

    dimensions: ClassVar[int]

    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """[N, in_channels, ...] → [N, out_channels, ...], in the type of the input; N may be missing.

        Args:
            input: as above.
            output_size: the size of the result, where a stride leaves several possible.
        """
        x = self.quantized_input(input)
        torch_class: Any = self.kind  # its method reads the hyperparameters alone
        output_padding = torch_class._output_padding(
            self, x, output_size, self.stride, self.padding, self.kernel_size, self.dimensions, self.dilation
        )
        transpose: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.dimensions - 1]
        result: Tensor = transpose(
            x,
            self.dequantized_weight(x.dtype),
            self.cast_bias(x.dtype),
            self.stride,
            self.padding,
            output_padding,
            self.groups,
            self.dilation,
        )
        return result


@packs(nn.ConvTranspose1d)
class PackedConvTranspose1d(PackedConvTranspose):
    """``nn.ConvTranspose1d``."""

    dimensions = 1


@packs(nn.ConvTranspose2d)
class PackedConvTranspose2d(PackedConvTranspose):
    """``nn.ConvTranspose2d``."""

    dimensions = 2


@packs(nn.ConvTranspose3d)
class PackedConvTranspose3d(PackedConvTranspose):
    """``nn.ConvTranspose3d``."""

    dimensions = 3
