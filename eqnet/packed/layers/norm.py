"""What is left of batch norms: nothing where they become part of a layer, else a scale and a shift for each channel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from eqnet.tracing import STATISTICS


class ChannelAffine(nn.Module):
    """``x · scale + shift`` for each channel, which is dimension 1.

    Attributes:
        scale: float32 [channels].
        shift: float32 [channels].
    """

    scale: Tensor
    shift: Tensor

    @classmethod
    def convert(cls, norm: nn.Module, scale: Tensor, shift: Tensor) -> ChannelAffine:
        """Makes ``norm`` itself one, so that whatever refers to it runs it as one."""
        _clear(norm)
        norm.__class__ = cls
        assert isinstance(norm, cls)
        norm.register_buffer("scale", scale)
        norm.register_buffer("shift", shift)
        return norm

    def forward(self, input: Tensor) -> Tensor:
        """[N, channels, ...] → the same shape and type."""
        scale, shift = (part.view(-1, *[1] * (input.ndim - 2)) for part in (self.scale, self.shift))
        return (input * scale + shift).to(input.dtype)

    def extra_repr(self) -> str:
        """The number of channels, as ``print`` shows it."""
        return f"{self.scale.numel()}"


def scale_and_shift(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """What a batch norm computes in evaluation, ``γ / √(var + ε)`` and ``β - mean · scale``: float64 [channels] each.

    Args:
        norm: one for which ``eqnet.tracing.is_affine`` holds; γ is 1 and β is 0 where it has none.
    """
    mean, variance, gamma, beta = (
        part.detach().double() if isinstance(part := getattr(norm, name), Tensor) else None
        for name in ("running_mean", "running_var", "weight", "bias")
    )
    assert mean is not None
    assert variance is not None
    assert isinstance(norm.eps, float)
    scale = torch.rsqrt(variance + norm.eps)
    if gamma is not None:
        scale = scale * gamma
    shift = -mean * scale
    return scale, shift if beta is None else shift + beta


def into_identity(norm: nn.Module) -> None:
    """Makes ``norm`` itself an ``nn.Identity``."""
    _clear(norm)
    norm.__class__ = nn.Identity


def _clear(norm: nn.Module) -> None:
    for name in ("weight", "bias"):
        norm._parameters.pop(name, None)
    for name in STATISTICS:
        norm._buffers.pop(name, None)
