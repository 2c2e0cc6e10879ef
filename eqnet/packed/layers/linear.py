"""Packed linear layers."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from eqnet.ops import Panels, packed_linear, packed_linear_static
from eqnet.packed.layers.base import PackedLayer, packs
from eqnet.packed.mapping import release

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""Of inputs that the kernels take; the last one by way of float32."""

_preparing = threading.Lock()


class _Prepared(NamedTuple):
    """What the kernels need.

    Attributes:
        panels: the weight.
        correction: sums of the rows of the weight, float32 [rows]; None if the input stays in floating point.
        scale, zero_point: of the input.
    """

    panels: Panels
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
                x = input.float() if input.dtype == torch.float16 else input
                return self._multiplied(x, self._prepared).to(input.dtype)
        x = self.quantized_input(input)
        return F.linear(x, self.dequantized_weight(x.dtype), self.cast_bias(x.dtype))

    def prepare(self, memory: Tensor | None = None) -> None:
        """Orders the weight as the kernels read it, which they do on the CPU alone; once.

        The memory of the stored weight goes back to its file, if it was loaded. Compiling or exporting a layer that is
        not prepared takes the slow way for it.

        Args:
            memory: see ``Panels.of``.
        """
        with _preparing:
            if self._prepared is None and self.codes.device.type == "cpu" and self.cols:
                self._prepared = self._made(memory)
                for part in (self.codes, self.scale, self.zero_point):
                    if part is not None and (part.is_inference() or part._version == 0):  # else it is not the file's
                        release(part)

    @property
    def is_prepared(self) -> bool:
        """Whether the kernels can read the weight."""
        return self._prepared is not None

    @property
    def panels(self) -> Panels:
        """The weight as the kernels read it, prepared if it was not; it must be on the CPU and have columns."""
        self.prepare()
        assert self._prepared is not None
        return self._prepared.panels

    def _made(self, memory: Tensor | None) -> _Prepared:
        panels = Panels.of(self.weight, memory)
        if self.input_scale is None or self.input_zero_point is None:
            return _Prepared(panels, None, 1.0, 0)
        correction = panels.dequantize().sum(1, dtype=torch.float64).float()
        return _Prepared(panels, correction, self.input_scale.item(), int(self.input_zero_point.item()))

    def _has_kernels(self, x: Tensor) -> bool:
        return x.device.type == self.codes.device.type == "cpu" and x.dtype in _DTYPES and self.cols > 0

    def _multiplied(self, x: Tensor, prepared: _Prepared) -> Tensor:
        panels, correction, scale, zero_point = prepared
        if self.input_format is None or correction is None:
            return packed_linear(x, panels, self.bias, self.compute)
        return packed_linear_static(x, panels, self.bias, correction, self.input_format, scale, zero_point)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedLinear:
        super()._apply(fn, recurse)
        if self.codes.device.type != "cpu":
            self._prepared = None
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._prepared = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be made again."""
        return {name: value for name, value in self.__dict__.items() if name != "_prepared"}
