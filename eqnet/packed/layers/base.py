"""What every packed layer does: hold what is stored, and compute in the one format that it has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from eqnet.errors import InputError
from eqnet.formats import Format
from eqnet.layers import ELASTIC, Elastic
from eqnet.ops import fake_quantize
from eqnet.packed.tensor import PackedTensor

T = TypeVar("T", bound="PackedLayer")

_FLOATING = ("weight", "bias", "weight_quantizer", "input_quantizer", "format", "observer", "channels_last")
"""What a layer in floating point, elastic or not, has beside its hyperparameters."""


@dataclass(frozen=True, eq=False)
class InputRange:
    """The static quantization of a layer's input, one for the whole tensor.

    Attributes:
        format: of the codes, per tensor.
        scale: positive, float32 [1].
        zero_point: int16 [1], from ``format.qmin`` to ``format.qmax``; 0 if symmetric.

    Raises:
        InputError: a part has another shape or type, or a value that is none.
    """

    format: Format
    scale: Tensor
    zero_point: Tensor

    def __post_init__(self) -> None:
        for name, part, dtype in (("scale", self.scale, torch.float32), ("zero point", self.zero_point, torch.int16)):
            if part.shape != (1,) or part.dtype != dtype:
                raise InputError(
                    f"input {name}: expected {_name(dtype)} of shape (1,); "
                    f"found {_name(part.dtype)} of shape {tuple(part.shape)}"
                )
        scale, zero_point = self.scale.item(), int(self.zero_point.item())
        if not 0 < scale < float("inf"):
            raise InputError(f"input scale: expected a positive number; found {scale}")
        lowest, highest = (0, 0) if self.format.symmetric else (self.format.qmin, self.format.qmax)
        if not lowest <= zero_point <= highest:
            raise InputError(f"input zero point: {self.format} has {lowest} to {highest}; found {zero_point}")


@dataclass(frozen=True, eq=False)
class LayerWeight(PackedTensor):
    """A packed weight that also answers what models ask of the weight of their layer.

    Functions of torch take it for the weight in floating point, which is made for each call:
    ``F.linear(x, model.embed.weight)`` computes what it did before, slowly.

    Attributes:
        layer: whose weight it is.
    """

    layer: PackedLayer

    @property
    def dtype(self) -> torch.dtype:
        """What the layer's weight would have in floating point."""
        return self.layer.dtype

    @property
    def shape(self) -> torch.Size:
        """That of torch's layout."""
        return self.layer.shape

    @property
    def device(self) -> torch.device:
        """Where its layer computes."""
        return self.layer.device

    @property
    def T(self) -> Tensor:  # noqa: N802  # as torch calls it
        """The weight in floating point, transposed."""
        return self.layer.dequantized_weight(self.dtype).T

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        def dense(part: Any) -> Any:
            return part.layer.dequantized_weight(part.dtype) if isinstance(part, LayerWeight) else part

        args, kwargs = tree_map(dense, (args, kwargs or {}))
        return function(*args, **kwargs)


class PackedLayer(nn.Module):
    """A layer that holds its weight packed.

    It keeps the hyperparameters of the torch layer that it replaces under torch's own names. Its buffers are what is
    stored; only the integer ``input_zero_point`` is wider in memory than its one stored byte. They keep their types
    when the model changes its own (``model.bfloat16()``).

    Attributes:
        codes, scale, zero_point: the parts of ``weight``.
        bias: float32 [rows], with a folded batch norm in it; None if there is none.
        input_scale: float32 [1]; None if the input stays in floating point.
        input_zero_point: int16 [1], the integer; None if the input stays in floating point.
        weight_format: of the weight.
        input_format: of the input; None if it stays in floating point.
        rows, cols: of the weight as a matrix.
        shape: of the weight in torch's layout.
        dtype: of the weight before it was quantized.
        path: dotted name of the layer in its model, for messages.
        compute: how products with an input in floating point are taken where there are kernels for them: ``float``,
            exact, or ``int8``, faster (see ``eqnet.ops.packed_linear``).
        kind: the torch layer that it replaces.
        elastic: the elastic layer, which knows how a weight becomes a matrix.
    """

    kind: ClassVar[type[nn.Module]]
    elastic: ClassVar[type[Elastic]]

    codes: Tensor
    scale: Tensor
    zero_point: Tensor | None
    bias: Tensor | None
    input_scale: Tensor | None
    input_zero_point: Tensor | None
    weight_format: Format
    input_format: Format | None
    rows: int
    cols: int
    shape: torch.Size
    dtype: torch.dtype
    path: str
    compute: str = "float"

    _prepared: Any = None
    """What was made of what is stored for where the layer computes; it can be made again."""

    @classmethod
    def convert(
        cls: type[T],
        layer: nn.Module,
        path: str,
        weight: PackedTensor,
        bias: Tensor | None = None,
        input_range: InputRange | None = None,
        dtype: torch.dtype | None = None,
    ) -> T:
        """Makes ``layer`` itself packed: it stays the same object, so that whatever refers to it runs it packed.

        Args:
            layer: elastic, or the torch layer of ``kind``; its weight may be on the meta device.
            path: dotted name of the layer in its model.
            weight: its parts become buffers as they are, which layers may share.
            bias: float32 [rows].
            input_range: None for an input in floating point.
            dtype: of the weight before it was quantized; that of the layer's weight if None.

        Raises:
            InputError: a part does not fit the layer, which the message names; the layer is left as it was.
        """
        shape = layer.weight.shape
        assert isinstance(shape, torch.Size)
        matrix = cls.elastic.to_matrix(layer, torch.empty(shape, device="meta")).shape
        if (weight.rows, weight.cols) != tuple(matrix):
            raise InputError(
                f"layer '{path}': a {cls.kind.__name__} with a weight of shape {tuple(shape)} needs a matrix of "
                f"{tuple(matrix)}; found {(weight.rows, weight.cols)}"
            )
        if bias is not None and (bias.shape != (weight.rows,) or bias.dtype != torch.float32):
            raise InputError(
                f"layer '{path}': bias: expected float32 of shape ({weight.rows},); "
                f"found {_name(bias.dtype)} of shape {tuple(bias.shape)}"
            )
        dtype = dtype or layer.get_parameter("weight").dtype
        for name in _FLOATING:
            for members in (layer._parameters, layer._modules, layer.__dict__):
                members.pop(name, None)
        layer.__class__ = cls
        assert isinstance(layer, cls)
        layer.weight_format, layer.rows, layer.cols = weight.format, weight.rows, weight.cols
        layer.input_format = input_range.format if input_range is not None else None
        layer.shape, layer.dtype, layer.path = shape, dtype, path
        layer.register_buffer("codes", weight.codes)
        layer.register_buffer("scale", weight.scale)
        layer.register_buffer("zero_point", weight.zero_point)
        layer.register_buffer("bias", bias)
        layer.register_buffer("input_scale", input_range.scale if input_range is not None else None)
        layer.register_buffer("input_zero_point", input_range.zero_point if input_range is not None else None)
        return layer

    @property
    def weight(self) -> LayerWeight:
        """The packed weight, as a matrix of output channels by inputs of one output."""
        return LayerWeight(
            format=self.weight_format,
            rows=self.rows,
            cols=self.cols,
            codes=self.codes,
            scale=self.scale,
            zero_point=self.zero_point,
            layer=self,
        )

    @property
    def device(self) -> torch.device:
        """Where the layer computes."""
        return self.codes.device

    def stored(self) -> dict[str, Tensor]:
        """The buffers in the types in which they are stored: the zero point of the input is one byte."""
        buffers = {name: buffer for name in PARTS if (buffer := getattr(self, name)) is not None}
        if self.input_zero_point is not None:
            buffers["input_zero_point"] = self.input_zero_point.to(torch.uint8)
        return buffers

    def prepare(self) -> None:
        """Makes what the kernels read, where there are any; calling the layer does it, too, the first time."""

    def dequantized_weight(self, dtype: torch.dtype) -> Tensor:
        """The weight in torch's layout."""
        return self.elastic.from_matrix(self, self.weight.dequantize(), self.shape).to(dtype)

    def quantized_input(self, x: Tensor) -> Tensor:
        """``x`` rounded to what its codes can hold; ``x`` itself if it stays in floating point."""
        if self.input_format is None or self.input_scale is None or self.input_zero_point is None:
            return x
        scale, zero_point = self.input_scale.view(1, 1), self.input_zero_point.float().view(1, 1)
        fmt, size = self.input_format, max(x.numel(), 1)
        return fake_quantize(x.float(), scale, zero_point, size, fmt.qmin, fmt.qmax).to(x.dtype)

    def cast_bias(self, dtype: torch.dtype) -> Tensor | None:
        """The bias in the type that the layer computes in."""
        return self.bias.to(dtype) if self.bias is not None else None

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self._prepared = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be made again."""
        return {name: value for name, value in self.__dict__.items() if name != "_prepared"}

    def extra_repr(self) -> str:
        """Formats and shape, as ``print`` shows them."""
        return f"{self.rows}, {self.cols}, weight={self.weight_format}, input={self.input_format or 'float'}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedLayer:
        """Moves the buffers to another device with the model; of a change of type only ``dtype`` takes notice."""
        before = {name: buffer for name in PARTS if (buffer := getattr(self, name)) is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in before.items():
            after = getattr(self, name)
            if after.dtype != buffer.dtype:
                setattr(self, name, buffer.to(after.device))
        self.dtype = fn(torch.empty(0, dtype=self.dtype, device=self.codes.device)).dtype
        return self


PARTS = ("codes", "scale", "zero_point", "bias", "input_scale", "input_zero_point")
"""The buffers of a packed layer."""

PACKED: dict[type[nn.Module], type[PackedLayer]] = {}
"""Which packed layer replaces which layer, elastic or torch's own."""


def packs(kind: type[nn.Module]) -> Callable[[type[T]], type[T]]:
    """Registers the decorated class as the packed form of ``kind`` and of its elastic form."""

    def register(packed: type[T]) -> type[T]:
        packed.kind, packed.elastic = kind, ELASTIC[kind]
        PACKED[kind] = PACKED[ELASTIC[kind]] = packed
        return packed

    return register


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
