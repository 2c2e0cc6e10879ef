"""Weights that GLM-130B and ChatGLM quantized, taken over without loss.

Their codes are symmetric, with one scale an output row: absmax / (2^(b-1) - 1). INT8 is one code a byte; INT4 is two,
both in two's complement, the code of the even column in the high half. Codes c₀ and c₁ are one byte:

    GLM       (c₀ & 15) << 4 | (c₁ & 15)
    planes    (c₁ + 8) << 4 | (c₀ + 8)

Adding 8 to four bits of two's complement flips the highest of them; so a byte of the one is a byte of the other, its
halves swapped, and no code needs to be unpacked.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from eqnet.errors import InputError
from eqnet.formats import Format
from eqnet.packed.tensor import SCALE_DTYPES, PackedTensor

_WEIGHT, _SCALE = ".weight", ".weight_scale"

_BLOCK = 1 << 18
"""Bytes that are converted at a time, few enough to stay in the cache between one step and the next."""


def import_glm(weight: Tensor, scale: Tensor, bits: int, *, name: str = "weight") -> PackedTensor:
    """A quantized weight of GLM; ``dequantize`` gives its codes times its scales in float32, bit for bit.

    Args:
        weight: int8 [rows, cols] of 8 bits, or [rows, cols / 2] of 4 bits.
        scale: float16, bfloat16 or float32 [rows]; the type stays.
        bits: 4 or 8, as ``quantization_bit`` of the model's configuration says.
        name: for messages.

    Returns:
        int4:channel or int8:channel, [rows, cols].

    Raises:
        InputError: a tensor has another type or shape, a scale is negative or not finite, or ``bits`` is neither.
    """
    if bits not in (4, 8):
        raise InputError(f"{name}: GLM's weights of {bits} bits were asked for; they have 4 or 8")
    if weight.dtype != torch.int8 or weight.dim() != 2:
        raise InputError(f"{name}: expected int8 of two dimensions, as GLM stores its codes; found {_found(weight)}")
    if scale.dtype not in SCALE_DTYPES or scale.shape != weight.shape[:1]:
        raise InputError(
            f"{name}: the scale of its {len(weight)} rows is expected as float16 ({len(weight)},); "
            f"found {_found(scale)}"
        )
    if not bool((torch.isfinite(scale) & (scale >= 0)).all()):
        raise InputError(f"{name}: a scale is negative or not finite; the checkpoint is damaged")
    stored = weight.reshape(-1).view(torch.uint8)
    codes = _swapped(stored) if bits == 4 else stored ^ 0x80
    rows, cols = len(weight), weight.shape[1] * (8 // bits)
    return PackedTensor(Format.parse(f"int{bits}:channel"), rows, cols, codes, scale.reshape(rows, 1), None)


def import_glm_layers(tensors: Mapping[str, Tensor], bits: int) -> dict[str, PackedTensor]:
    """The quantized weights among the tensors of a checkpoint, by the path of their layer.

    They are those with a ``PATH.weight_scale`` beside ``PATH.weight``; what else is in ``tensors`` is not looked at.

    Args:
        tensors: of a ChatGLM checkpoint, or of one tensor-parallel part of GLM-130B's.
        bits: of all of them, 4 or 8; a tensor does not tell.

    Raises:
        InputError: one of them cannot be imported, or there is none; the message has its name.
    """
    paths = [name.removesuffix(_SCALE) for name in tensors if name.endswith(_SCALE)]
    if not paths:
        raise InputError(f"no tensor is called PATH{_SCALE}; these are not quantized weights of GLM")
    for path in paths:
        if path + _WEIGHT not in tensors:
            raise InputError(f"{path}{_SCALE}: there is no {path}{_WEIGHT} beside it")
    return {
        path: import_glm(tensors[path + _WEIGHT], tensors[path + _SCALE], bits, name=path + _WEIGHT) for path in paths
    }


def _swapped(stored: Tensor) -> Tensor:
    """The bytes of two codes each, uint8 [bytes], as planes have them."""
    if stored.device.type != "cpu":
        return ((stored << 4) | (stored >> 4)) ^ 0x88
    # On one core and block by block this is six times as fast as the line above.
    source = stored.numpy()
    codes, low = np.empty_like(source), np.empty(min(len(source), _BLOCK), np.uint8)
    for start in range(0, len(source), _BLOCK):
        part, target = source[start : start + _BLOCK], codes[start : start + _BLOCK]
        np.multiply(part, np.uint8(16), out=target)  # to the left by 4, for which NumPy has no fast loop
        np.right_shift(part, np.uint8(4), out=low[: len(part)])
        np.bitwise_or(target, low[: len(part)], out=target)
        np.bitwise_xor(target, np.uint8(0x88), out=target)
    return torch.from_numpy(codes)


def _found(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {tuple(tensor.shape)}"
