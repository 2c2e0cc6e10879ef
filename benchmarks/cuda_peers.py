"""Products of other projects on a GPU: torch's own, and those of packages that are installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Product = Callable[[Tensor], Tensor]
"""Of activations [tokens, cols]."""


@dataclass(frozen=True)
class Peer:
    """One way to multiply.

    Attributes:
        name: whose.
        bits: stored for a weight, with scales.
        nbytes: of the stored weight.
        make: another copy of it, for a weight [rows, cols] in 16 bits.
    """

    name: str
    bits: float
    make: Callable[[Tensor], Product]

    def nbytes(self, rows: int, cols: int) -> int:
        """Of the stored weight."""
        return int(rows * cols * self.bits / 8)


def _dense(weight: Tensor) -> Product:
    copy = weight.clone()
    return lambda x: F.linear(x, copy)


def _torch_int4(weight: Tensor) -> Product:
    """Torch's weight-only int4 in groups of 128 (tinygemm), bfloat16 alone."""
    rows, cols = weight.shape
    codes = torch.randint(16, (rows, cols), dtype=torch.int32, device=weight.device)
    packed = torch.ops.aten._convert_weight_to_int4pack((codes[:, ::2] << 4 | codes[:, 1::2]).to(torch.uint8), 8)
    scales = torch.full((cols // 128, rows, 2), 0.01, dtype=torch.bfloat16, device=weight.device)
    return lambda x: torch.ops.aten._weight_int4pack_mm(x, packed, 128, scales)


def _torch_int8(weight: Tensor) -> Product:
    """Torch's weight-only int8, one scale a channel."""
    codes = torch.randint(-128, 128, weight.shape, dtype=torch.int8, device=weight.device)
    scales = torch.full((len(weight),), 0.01, dtype=weight.dtype, device=weight.device)
    return lambda x: torch.ops.aten._weight_int8pack_mm(x, codes, scales)


def _marlin(weight: Tensor) -> Product:
    """IST-DASLab's Marlin, int4 in groups of 128, float16 alone."""
    import marlin

    rows, cols = weight.shape
    codes = torch.randint(-(1 << 31), 1 << 31, (cols // 16, rows * 2), dtype=torch.int32, device=weight.device)
    scales = torch.full((cols // 128, rows), 0.01, dtype=torch.float16, device=weight.device)
    workspace = torch.zeros(rows // 128 * 16, dtype=torch.int32, device=weight.device)

    def product(x: Tensor) -> Tensor:
        out = x.new_empty(len(x), rows)
        marlin.mul(x, codes, out, scales, workspace)
        return out

    return product


def _bitsandbytes(weight: Tensor) -> Product:
    """Bitsandbytes' NF4 in blocks of 64."""
    import bitsandbytes

    codes, state = bitsandbytes.functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    return lambda x: bitsandbytes.matmul_4bit(x, codes.t(), state)


PEERS = (
    Peer("torch 16 bits", 16, _dense),
    Peer("torch int4 g128", 4.25, _torch_int4),
    Peer("torch int8", 8, _torch_int8),
    Peer("Marlin int4 g128", 4.125, _marlin),
    Peer("bitsandbytes nf4 g64", 4.5, _bitsandbytes),
)


def usable(weight: Tensor, x: Tensor) -> Iterator[tuple[Peer, str | None]]:
    """Each peer, and why it does not take this weight and these activations; None if it does."""
    for peer in PEERS:
        try:
            peer.make(weight)(x)
            torch.cuda.synchronize()
        except (ImportError, NotImplementedError, RuntimeError, AttributeError) as e:
            yield peer, str(e).splitlines()[0][:100]
        else:
            yield peer, None
