"""The kernels for GPUs: ``libeqnet_cuda``, whose functions ``cpp/include/eqnet/cuda.h`` describes.

They run on the current stream of the device of their operands, wait for nothing, and can be captured in CUDA graphs.
"""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from eqnet.errors import InputError, RunError
from eqnet.ops.library import LIBRARY
from eqnet.ops.panels import SCALE_TYPES, address
from eqnet.ops.tiles import Tiles

_ELEMENTS = SCALE_TYPES
"""The numbers by which the kernels know types; those of scales and of all else are the same."""

_NARROW = (torch.float16, torch.bfloat16)
"""What products are fused for."""

_ALIGNMENT = 16
"""Bytes of the largest loads."""

_VERSION = 1
_FAILED = 2
_BFLOAT16_CAPABILITY = 8
"""The first GPUs that multiply bfloat16, by the major number of their compute capability."""

_i32, _i64, _pointer = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p


class _Matrix(ctypes.Structure):
    """What a weight and a table begin with."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = (
        ("rows", _i64),
        ("cols", _i64),
        ("group_size", _i64),
        ("bits", _i32),
        ("scale_type", _i32),
    )


class _Weight(_Matrix):
    """``eqnet_cuda_weight``."""

    _fields_ = (
        ("codes", _pointer),
        ("scales", _pointer),
        ("zeros", _pointer),
    )

    @classmethod
    def of(cls, tiles: Tiles) -> _Weight:
        scales, zeros = tiles.scales, tiles.zeros
        return cls(*tiles.shape, _ELEMENTS[scales.dtype], tiles.codes.data_ptr(), scales.data_ptr(), address(zeros))


class _Table(_Matrix):
    """``eqnet_cuda_table``."""

    _fields_ = (
        ("scale_per_row", _i32),
        ("codes", _pointer),
        ("scale", _pointer),
        ("zero_point", _pointer),
    )


class CudaLibrary:
    """The functions of ``libeqnet_cuda``, or of a library with the same ones, on tensors.

    Raises:
        RunError: the file is no such library, or of another version.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._functions = ctypes.CDLL(str(path))
            version = self._functions.eqnet_cuda_version()
        except (OSError, AttributeError) as e:
            raise RunError(f"{path}: the kernels for GPUs cannot be loaded ({e}); install eqnet anew") from e
        if version != _VERSION:
            raise RunError(f"{path}: version {version} of the kernels for GPUs, not {_VERSION}; install eqnet anew")
        self._functions.eqnet_cuda_message.restype = ctypes.c_char_p
        self._counters: dict[tuple[torch.device, int], Tensor] = {}

    def linear(self, x: Tensor, weight: Tiles, bias: Tensor | None, out: Tensor) -> Tensor:
        """``x`` times the transposed weight, plus ``bias``, summed in float32.

        Args:
            x: float16 or bfloat16 [..., cols].
            weight: on the same device.
            bias: float32 [rows].
            out: like ``x`` [..., rows]; filled and returned.
        """
        x, bias = _aligned(x.contiguous()), None if bias is None else _aligned(bias)
        tokens, element = x.numel() // weight.shape[1], _i32(_ELEMENTS[x.dtype])
        given = _Weight.of(weight)
        needed, counters = _i64(), _i64()
        with _on(x.device):
            stream = _stream(x.device)
            self._call(
                "linear_needs",
                ctypes.byref(given),
                element,
                _i64(tokens),
                ctypes.byref(needed),
                ctypes.byref(counters),
            )
            memory = x.new_empty(needed.value, dtype=torch.uint8)
            self._call(
                "linear",
                ctypes.byref(given),
                _pointer(x.data_ptr()),
                element,
                _i64(tokens),
                _pointer(address(bias)),
                _i32(0),
                _pointer(out.data_ptr()),
                _pointer(memory.data_ptr()),
                _pointer(self._zeros(counters.value, x.device, stream).data_ptr()),
                _pointer(stream),
            )
        return out

    def dequantize(self, weight: Tiles, dtype: torch.dtype) -> Tensor:
        """The weight, [rows, cols] in one of the three types of floating point."""
        out = weight.codes.new_empty(weight.shape[:2], dtype=dtype)
        with _on(out.device):
            given = _Weight.of(weight)
            self._call(
                "dequantize",
                ctypes.byref(given),
                _pointer(out.data_ptr()),
                _i32(_ELEMENTS[dtype]),
                _pointer(_stream(out.device)),
            )
        return out

    def embedding(
        self,
        indices: Tensor,
        codes: Tensor,
        scale: Tensor,
        zero_point: Tensor | None,
        shape: Sequence[int],
        out: Tensor,
    ) -> Tensor:
        """Rows of a table as it is stored, float32 [..., cols]; NaN for an index that is none of a row."""
        indices, codes, scale = indices.long().contiguous(), codes.contiguous(), scale.contiguous()
        zero_point = None if zero_point is None else zero_point.contiguous()
        table = _Table(
            *shape,
            _ELEMENTS[scale.dtype],
            int(scale.shape[0] > 1),
            codes.data_ptr(),
            scale.data_ptr(),
            address(zero_point),
        )
        with _on(out.device):
            self._call(
                "embedding",
                ctypes.byref(table),
                _pointer(indices.data_ptr()),
                _i64(indices.numel()),
                _pointer(out.data_ptr()),
                _pointer(_stream(out.device)),
            )
        return out

    def _call(self, name: str, *arguments: object) -> None:
        """Calls a function; raises InputError for an argument, and RunError for what CUDA says."""
        code = getattr(self._functions, f"eqnet_cuda_{name}")(*arguments)
        if code:
            words = f"{name} on the GPU: {self._functions.eqnet_cuda_message().decode()}"
            raise RunError(words) if code == _FAILED else InputError(words)

    def _zeros(self, count: int, device: torch.device, stream: int) -> Tensor:
        """``count`` counters, 0, as every call leaves them; calls on different streams have their own."""
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return torch.zeros(count, dtype=torch.int32, device=device)  # of the graph, which may run beside others
        key = device, stream
        if key not in self._counters or self._counters[key].numel() < count:
            self._counters[key] = torch.zeros(max(count, 1024), dtype=torch.int32, device=device)
        return self._counters[key]


@cache
def cuda_library() -> CudaLibrary | None:
    """The kernels for GPUs; None, with a warning, if eqnet was built without nvcc."""
    path = Path(__file__).parents[1] / "libeqnet_cuda.so"
    if path.exists():
        return CudaLibrary(path)
    warnings.warn(
        "eqnet was built without its kernels for GPUs, so that weights are unpacked anew for each product there; "
        "install the CUDA toolkit (nvcc), then eqnet again",
        stacklevel=2,
    )
    return None


def linear(library: CudaLibrary | None, x: Tensor, weight: Tiles, bias: Tensor | None, out: Tensor) -> Tensor:
    """``x`` times the transposed weight, plus ``bias``, into ``out`` [..., rows].

    In 16 bits the product is fused. In float32, in bfloat16 on GPUs that do not multiply it, and without the kernels,
    the weight is dequantized first, as GLM-130B does it.
    """
    weight.check("packed_linear")
    if library is not None and x.dtype in _NARROW and _multiplies(x):
        return library.linear(x, weight, bias, out)
    matrix = dequantize(library, weight, x.dtype)
    return out.copy_(F.linear(x, matrix, None if bias is None else bias.to(x.dtype)))


def dequantize(library: CudaLibrary | None, weight: Tiles, dtype: torch.dtype) -> Tensor:
    """The weight, [rows, cols]."""
    weight.check("dequantize")
    return weight.dequantized().to(dtype) if library is None else library.dequantize(weight, dtype)


def _dequantize_op(codes: Tensor, scales: Tensor, zeros: Tensor | None, shape: Sequence[int]) -> Tensor:
    rows, cols, size, bits = shape
    return dequantize(cuda_library(), Tiles(codes, scales, zeros, (rows, cols, size, bits)), torch.float32)


LIBRARY.impl("dequantize_prepared", _dequantize_op, "CUDA")


def _multiplies(x: Tensor) -> bool:
    """Whether there are instructions for products of this type."""
    if x.dtype != torch.bfloat16 or x.device.type != "cuda":
        return True
    return torch.cuda.get_device_capability(x.device)[0] >= _BFLOAT16_CAPABILITY


def _aligned(x: Tensor) -> Tensor:
    """The same where the largest loads can begin, which a part of another tensor may not be."""
    return x.clone() if x.data_ptr() % _ALIGNMENT else x


def _on(device: torch.device) -> AbstractContextManager[object]:
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _stream(device: torch.device) -> int:
    return int(torch.cuda.current_stream(device).cuda_stream) if device.type == "cuda" else 0
