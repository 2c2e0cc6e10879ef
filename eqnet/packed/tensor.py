"""One weight as it is stored."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from eqnet.formats import Format
from eqnet.packed.layout import SCALES, Spec, check_parts
from eqnet.packed.planes import pack, unpack
from eqnet.quantizer import Quantizer

SCALE_DTYPES: tuple[torch.dtype, ...] = tuple(getattr(torch, name) for name in SCALES)


@dataclass(frozen=True, eq=False)
class PackedTensor:
    """A [rows, cols] matrix in one format; it holds what is stored and nothing else.

    Attributes:
        format: of the codes.
        rows: output channels.
        cols: inputs of one output.
        codes: the planes of the codes, row by row, uint8 [plane_bytes(rows · cols, bits)].
        scale: float16, bfloat16 or float32, of the format's ``scale_shape``.
        zero_point: the planes of the zero points, uint8 [plane_bytes(scales, bits)]; None if symmetric.

    Raises:
        InputError: a part has another shape or type than the format says, or a size cannot be.
    """

    format: Format
    rows: int
    cols: int
    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None

    def __post_init__(self) -> None:
        zero_point = None if self.zero_point is None else _spec(self.zero_point)
        check_parts(self.format, self.rows, self.cols, _spec(self.codes), _spec(self.scale), zero_point)

    @classmethod
    def of(cls, x: Tensor, quantizer: Quantizer, fmt: Format) -> PackedTensor:
        """``x`` [rows, cols], quantized; ``dequantize`` gives back ``quantizer(x, fmt)``, bit for bit."""
        rows, cols = x.shape
        return cls(
            fmt,
            rows,
            cols,
            codes=pack(quantizer.codes(x, fmt) - fmt.qmin, fmt.bits),
            scale=quantizer.scale(fmt).detach().to(quantizer.scale_dtype),
            zero_point=None if fmt.symmetric else pack(quantizer.integer_zero_point(fmt).short(), fmt.bits),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored."""
        return sum(part.nbytes for part in (self.codes, self.scale, self.zero_point) if part is not None)

    def integers(self) -> Tensor:
        """The codes, int16 [rows, cols], from ``format.qmin`` to ``format.qmax``."""
        stored = unpack(self.codes, self.rows * self.cols, self.format.bits)
        return stored.view(self.rows, self.cols).short() + self.format.qmin

    def zero_points(self) -> Tensor:
        """The zero points, int16 like ``scale``; 0 if the format is symmetric."""
        if self.zero_point is None:
            return torch.zeros(self.scale.shape, dtype=torch.int16, device=self.scale.device)
        return unpack(self.zero_point, self.scale.numel(), self.format.bits).view(self.scale.shape).short()

    def dequantize(self, into: Tensor | None = None) -> Tensor:
        """``(code - zero point) · scale``, float32 [rows, cols]; written ``into`` such a tensor if one is given."""
        stored = unpack(self.codes, self.rows * self.cols, self.format.bits)
        values = torch.empty(self.rows, self.cols, device=stored.device) if into is None else into
        values.copy_(stored.view(self.rows, self.cols))
        del stored
        # What is taken from a code as it is stored; all of it whole numbers, which float32 holds.
        shift, scale = (self.zero_points() - self.format.qmin).float(), self.scale.float()
        size = self.format.group_size or max(self.cols, 1)
        whole = self.cols // size
        if whole:
            groups = values[:, : whole * size].view(self.rows, whole, size)
            groups.sub_(shift[:, :whole, None]).mul_(scale[:, :whole, None])
        if self.cols % size:
            values[:, whole * size :].sub_(shift[:, whole:]).mul_(scale[:, whole:])
        return values


def _spec(part: Tensor) -> Spec:
    return Spec(str(part.dtype).removeprefix("torch."), tuple(part.shape))
