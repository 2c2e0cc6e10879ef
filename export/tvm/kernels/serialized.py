"""Programs and packed linear layers as bytes; ``cpp/include/eqnet/serialized.h`` has their layout.

A weight is stored as it is packed: codes of b bits take b bits, and what several layers share is there once.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from eqnet import _kernels
from eqnet.formats import Granularity
from eqnet.native import COMPUTE
from eqnet.ops.panels import SCALE_TYPES
from eqnet.packed.layers import PackedLayer, PackedLinear
from eqnet.packed.model import PackedModel
from eqnet.packed.tensor import PackedTensor
from eqnet.runtime.builder import Bounds, Pool
from eqnet.runtime.convolution import Parameters
from eqnet.runtime.program import lower
from eqnet.runtime.unsupported import UnsupportedError

MAGIC = b"eqnetbin"
VERSION = 1
_PROGRAM, _LINEAR_LAYERS = 1, 2
_CONVOLUTION, _SUM, _ACTIVATION, _POOLING, _CONCATENATION, _FLATTENING = range(1, 7)
_STATIC = 2
"""How layers compute whose input has a static format; the other ways are those of ``COMPUTE``."""


def serialized_program(packed: PackedModel, example: Tensor) -> tuple[bytes, tuple[int, ...]]:
    """A whole network.

    Args:
        packed: a network of convolutions.
        example: [N, channels, height, width] or [N, features], float32.

    Returns:
        The bytes, and the shape of the result for the example.

    Raises:
        UnsupportedError: it does something that integer programs do not; the message names it.
    """
    builder = ProgramWriter(example.shape[1])
    shape = lower(packed, example, builder)
    data = builder.data
    try:
        _kernels.read_program(data)
    except ValueError as e:
        raise UnsupportedError(f"{e}; run the model layer by layer instead") from e
    return data, shape


def serialized_layers(layers: Mapping[str, PackedLayer]) -> bytes:
    """Products with the matrices of packed layers, to be called by the names of these."""
    body, weights = _Body(), _Weights()
    body.add(len(layers))
    for name, layer in layers.items():
        fmt, encoded = layer.input_format, name.encode()
        body.add(len(encoded)).array(encoded)
        body.add(weights.number(layer.weight))
        if fmt is None or layer.input_scale is None or layer.input_zero_point is None:
            compute = layer.compute if isinstance(layer, PackedLinear) else "float"
            body.add(COMPUTE[compute], 1.0, 0, 0, 0)
        else:
            body.add(_STATIC, layer.input_scale.item(), int(layer.input_zero_point.item()), fmt.qmin, fmt.qmax)
        body.add(layer.bias is not None)
        if layer.bias is not None:
            body.tensor(layer.bias.float())
    return _file(_LINEAR_LAYERS, weights, body)


class ProgramWriter:
    """Writes down the operations of a network; it is a ``Builder``.

    Args:
        channels: of the network's input.

    Attributes:
        data: the program's bytes, once it is finished.
    """

    data: bytes

    def __init__(self, channels: int) -> None:
        self._channels = channels
        self._weights = _Weights()
        self._body = _Body()
        self._operations = 0

    def convolution(self, x: int, parameters: Parameters, residual: int, bounds: Bounds) -> int:
        p = parameters
        shape = (*p.channels, p.groups, *p.kernel, *p.stride, *p.dilation, *p.padding)
        value = self._operation(_CONVOLUTION, x, self._weights.number(p.stored), *shape)
        self._body.add(p.input_scale, p.input_zero, p.levels, residual, *bounds)
        self._body.tensor(p.bias)
        return value

    def add(self, a: int, b: int, bounds: Bounds) -> int:
        return self._operation(_SUM, a, b, *bounds)

    def bound(self, x: int, bounds: Bounds) -> int:
        return self._operation(_ACTIVATION, x, *bounds)

    def pool(self, x: int, pool: Pool, bounds: Bounds) -> int:
        shape = (*pool.kernel, *pool.stride, *pool.padding)
        return self._operation(_POOLING, x, not pool.maximum, pool.whole_image, *shape, pool.count_padding, *bounds)

    def concatenate(self, values: Sequence[int]) -> int:
        return self._operation(_CONCATENATION, len(values), *values)

    def flatten(self, x: int) -> int:
        return self._operation(_FLATTENING, x)

    def finish(self, result: int) -> None:
        body = _Body().add(self._channels, self._operations)
        body.parts += self._body.parts
        self.data = _file(_PROGRAM, self._weights, body.add(result))

    def _operation(self, *numbers: float) -> int:
        self._body.add(*numbers)
        self._operations += 1
        return self._operations


class _Body:
    """Numbers and arrays, one after the other."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def add(self, *numbers: float) -> _Body:
        """Integers as int32, the others as float32."""
        for number in numbers:
            self.parts.append(struct.pack("<f" if isinstance(number, float) else "<i", number))
        return self

    def array(self, data: bytes) -> _Body:
        self.parts.append(data + bytes(-len(data) % 4))
        return self

    def tensor(self, tensor: Tensor) -> _Body:
        return self.array(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())


class _Weights:
    """Packed weights, each once."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[int, ...], int] = {}
        self.stored: list[PackedTensor] = []  # keeps what the numbers are by

    def number(self, weight: PackedTensor) -> int:
        """Under which ``weight`` is stored."""
        key = (*(id(part) for part in (weight.codes, weight.scale, weight.zero_point)), weight.rows, weight.cols)
        if key not in self._numbers:
            self._numbers[key] = len(self.stored)
            self.stored.append(weight)
        return self._numbers[key]

    def write(self, body: _Body) -> None:
        body.add(len(self.stored))
        for weight in self.stored:
            fmt = weight.format
            body.add(weight.rows, weight.cols, fmt.group_size, fmt.bits, fmt.symmetric)
            body.add(fmt.granularity is not Granularity.TENSOR, SCALE_TYPES[weight.scale.dtype])
            for part in (weight.codes, weight.scale, weight.zero_point):
                if part is not None:
                    body.tensor(part)


def _file(kind: int, weights: _Weights, body: _Body) -> bytes:
    whole = _Body().add(kind)
    weights.write(whole)
    content = b"".join((*whole.parts, *body.parts))
    return MAGIC + struct.pack("<iI", VERSION, zlib.crc32(content)) + content


def weight_bytes(weights: Iterable[PackedTensor]) -> int:
    """Bytes of codes, scales and zero points, those that are shared once."""
    table = _Weights()
    for weight in weights:
        table.number(weight)
    return sum(weight.nbytes for weight in table.stored)
