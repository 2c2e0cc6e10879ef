"""Packed linear layers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eqnet.ops import Panels, Tiles, packed_linear, packed_linear_static
from eqnet.packed.layers.base import PackedLayer, packs
from eqnet.packed.mapping import release

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Of inputs that the kernels take; on the CPU the last one by way of float32."""

_DEVICES = ("cpu", "cuda")
"""That there are kernels for."""

_preparing = threading.Lock()


class _Prepared(NamedTuple):
    """What the kernels need.

    Attributes:
        weight: in the order in which the kernels of its device read it.
        correction: sums of the rows of the weight, float32 [rows]; None if the input stays in floating point.
        scale, zero_point: of the input.
    """

    weight: Panels | Tiles
    correction: Tensor | None
    scale: float
    zero_point: int


@packs(nn.Linear)
class PackedLinear(PackedLayer):
    """``nn.Linear`` on inputs of any number of dimensions, on kernels that read the packed weight as it is."""

    in_features: int
    out_features: int

    _prepared: _Prepared | None = None

    def forward(self, input: Tensor) -> Tensor:
        """[..., in_features] → [..., out_features], in the type of the input."""
        if self._has_kernels(input):
            if self._prepared is None and not torch.compiler.is_compiling():
                self.prepare()
            if self._prepared is not None:
                by_float = input.dtype == torch.float16 and input.device.type == "cpu"
                x = input.float() if by_float else input
                return self._multiplied(x, self._prepared).to(input.dtype)
        x = self.quantized_input(input)
        return F.linear(x, self.dequantized_weight(x.dtype), self.cast_bias(x.dtype))

    def prepare(self, memory: Tensor | None = None) -> None:
        """Orders the weight as the kernels of its device read it, where there are any; once.

        On the CPU the memory of the stored weight goes back to its file, if it was loaded; from GPUs it goes to the
        CPU. Compiling or exporting a layer that is not prepared takes the slow way for it.

        Args:
            memory: on the CPU; see ``Panels.of``.
        """
        with _preparing:
            if self._prepared is None and self.codes.device.type in _DEVICES and self.cols:
                self._prepared = self._made(memory)
                self._let_go()

    @property
    def is_prepared(self) -> bool:
        """Whether the kernels can read the weight."""
        return self._prepared is not None

    @property
    def panels(self) -> Panels:
        """The weight as the kernels of the CPU read it, prepared if it was not; it must be there and have columns."""
        self.prepare()
        assert self._prepared is not None
        assert isinstance(self._prepared.weight, Panels)
        return self._prepared.weight

    @property
    def device(self) -> torch.device:
        """Where products are taken."""
        return self.codes.device if self._prepared is None else self._prepared.weight.codes.device

    def dequantized_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight in torch's layout."""
        if self._prepared is None or self.device == self.codes.device:
            return super().dequantized_weight(dtype)
        return self._prepared.weight.dequantize().to(dtype)

    def _made(self, memory: Tensor | None) -> _Prepared:
        on_cpu = self.codes.device.type == "cpu"
        weight = Panels.of(self.weight, memory) if on_cpu else Tiles.of(self.weight)
        if self.input_scale is None or self.input_zero_point is None:
            return _Prepared(weight, None, 1.0, 0)
        correction = weight.dequantize().sum(1, dtype=torch.float64).float()
        return _Prepared(weight, correction, self.input_scale.item(), int(self.input_zero_point.item()))

    def _let_go(self) -> None:
        """Frees what is stored, where it is kept elsewhere too or can be."""
        for part in (self.codes, self.scale, self.zero_point):
            if part is None:
                continue
            if part.device.type == "cuda":
                part.data = part.data.cpu()  # the same tensor, as layers that are tied share it
            elif part.is_inference() or part._version == 0:  # else it is not the file's
                release(part)

    def _has_kernels(self, x: Tensor) -> bool:
        return x.device == self.device and x.device.type in _DEVICES and x.dtype in _DTYPES and self.cols > 0

    def _multiplied(self, x: Tensor, prepared: _Prepared) -> Tensor:
        weight, correction, scale, zero_point = prepared
        if self.input_format is None or correction is None:
            return packed_linear(x, weight, self.bias, self.compute)
        return packed_linear_static(x, weight, self.bias, correction, self.input_format, scale, zero_point)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedLinear:
        super()._apply(fn, recurse)
        if self._prepared is not None:
            if fn(torch.empty(0, device=self.device)).device != self.device:
                self._prepared = None
            elif self.device.type != "cpu":
                self._let_go()
        return self
