"""What a file holds: llama.cpp's names, and the type of each tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import gguf
import numpy as np
import torch
from torch import Tensor

from eqnet.errors import ModelError
from eqnet.export.gguf.architectures import Architecture, interleaved
from eqnet.export.gguf.grid import Array, grid_of, why_not
from eqnet.export.gguf.rope import frequency_factors
from eqnet.export.gguf.types import type_for
from eqnet.export.nearest import refusal
from eqnet.export.targets import load_target
from eqnet.packed.layers import PackedLayer
from eqnet.packed.layers.base import PARTS
from eqnet.packed.model import PackedModel

Report = Callable[[str, int, int], None]

_ROUNDED = "F16"
"""What takes weights whose columns no type with scales divides."""


@dataclass(frozen=True, eq=False)
class Entry:
    """A tensor of a file.

    Attributes:
        name: llama.cpp's.
        type: ggml's.
        shape: rows and columns, or elements.
        make: its bytes, made when they are written.
        layer: whose weight it is; None if it is in floating point.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    make: Callable[[], Array]
    layer: PackedLayer | None = None

    @property
    def ggml(self) -> Any:
        """The type as ``gguf`` has it."""
        return gguf.GGMLQuantizationType[self.type]

    @property
    def nbytes(self) -> int:
        """In the file."""
        block, size = gguf.GGML_QUANT_SIZES[self.ggml]
        return int(np.prod(self.shape)) // int(block) * int(size)


def entries(packed: PackedModel, architecture: Architecture, report: Report | None = None) -> list[Entry]:
    """All tensors of a model, weights that layers share once.

    Raises:
        ModelError: a layer is in a format that no type of ggml holds, or llama.cpp has no place for a tensor.
    """
    config: Any = packed.model.config
    names = _Names(architecture, config)
    found, reasons, seen = [], {}, set()
    for done, (name, layer) in enumerate(packed.layers.items()):
        if report is not None:
            report("Choosing types", done, len(packed.layers))
        if id(layer.codes) in seen:
            continue
        seen.add(id(layer.codes))
        entry, reason = _weight(names(f"{name}.weight"), layer, names.order(name, layer.rows))
        found += [entry] if entry is not None else []
        if reason is not None:
            reasons[name] = reason
    if reasons:
        raise refusal(load_target("gguf"), reasons, packed.layers, len(packed.layers))
    found += [_dense(names(name), name, tensor, names, architecture) for name, tensor in _others(packed)]
    factors = frequency_factors(config, names.head)
    if factors is not None:
        found.append(Entry("rope_freqs.weight", "F32", factors.shape, lambda: factors))
    return found


class _Names:
    """From transformers' names to llama.cpp's."""

    def __init__(self, architecture: Architecture, config: Any) -> None:
        arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.name)
        self._map = gguf.get_tensor_name_map(arch, config.num_hidden_layers)
        self._family, heads = architecture, config.num_attention_heads
        self.head = getattr(config, "head_dim", None) or config.hidden_size // heads
        self._heads = {"q_proj": heads, "k_proj": getattr(config, "num_key_value_heads", None) or heads}

    def __call__(self, name: str) -> str:
        found: str | None = self._map.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ModelError(f"llama.cpp's {self._family.name} has no place for tensor '{name}'; try --to onnx")
        return found

    def order(self, module: str, rows: int) -> Tensor | None:
        """In which order llama.cpp has the rows of a module's weight; None if in the same."""
        heads = self._heads.get(module.rpartition(".")[2]) if self._family.interleaved else None
        return interleaved(rows, heads) if heads is not None else None


def _weight(name: str, layer: PackedLayer, order: Tensor | None) -> tuple[Entry | None, str | None]:
    """The entry of a packed weight, or why there is none."""
    weight = layer.weight
    if weight.cols % 32:
        return Entry(name, _ROUNDED, (weight.rows, weight.cols), lambda: _rounded(layer, order), layer), None
    reason = why_not(weight)
    if reason is not None:
        return None, reason
    grid = grid_of(weight, order)
    kind = type_for(grid)
    if kind is None:
        lowest, highest = int(grid.steps.min()), int(grid.steps.max())
        return None, f"codes less zero points are from {lowest} to {highest}, and ggml's end at 8 bits"
    return Entry(
        name, kind.name, (weight.rows, weight.cols), lambda: kind.encode(grid_of(layer.weight, order)), layer
    ), None


def _rounded(layer: PackedLayer, order: Tensor | None) -> Array:
    weight = layer.weight.dequantize().half()
    return (weight if order is None else weight[order]).numpy()


def _others(packed: PackedModel) -> Iterator[tuple[str, Tensor]]:
    """What is not a packed weight, by name in the model: biases of packed layers, too."""
    weights = {f"{name}.{part}" for name in packed.layers for part in PARTS if part != "bias"}
    for name, tensor in packed.stored().items():
        if name not in weights:
            turned = type(packed.model.get_submodule(name.rpartition(".")[0])).__name__ == "Conv1D" and tensor.ndim == 2
            yield name, tensor.T if turned else tensor


def _dense(name: str, original: str, tensor: Tensor, names: _Names, architecture: Architecture) -> Entry:
    order = names.order(original.rpartition(".")[0], tensor.shape[0])
    offset = architecture.norm_offset if name.endswith("norm.weight") else 0.0

    def made(dtype: torch.dtype) -> Array:
        values = tensor.float() + offset
        values = (values if order is None else values[order]).to(dtype).cpu().contiguous()
        return values.view(torch.int16).numpy() if dtype == torch.bfloat16 else values.numpy()

    kind, dtype = _float_type(tensor)
    return Entry(name, kind, tuple(tensor.shape), lambda: made(dtype))


_FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def _float_type(tensor: Tensor) -> tuple[str, torch.dtype]:
    """The narrowest that holds every value; llama.cpp computes with vectors in float32."""
    rows = {"F32": torch.float32} if tensor.ndim < 2 else _FLOATS
    values = tensor.float()
    return next((name, dtype) for name, dtype in rows.items() if torch.equal(values.to(dtype).float(), values))
