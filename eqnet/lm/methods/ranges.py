"""Scales as they are stored."""

from __future__ import annotations

import torch
from torch import Tensor


def stored_scale(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Positive scales as ``dtype`` holds them, in float32; those below its smallest value become that."""
    limits = torch.finfo(dtype)
    smallest = limits.tiny * limits.eps if dtype == torch.float16 else limits.tiny
    return scale.clamp(smallest, limits.max).to(dtype).float()
