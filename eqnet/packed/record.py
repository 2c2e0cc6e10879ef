"""What is known of a packed model beside its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eqnet.errors import InputError
from eqnet.formats import Format

if TYPE_CHECKING:
    import torch
    from torch import nn

_DTYPES = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class LayerRecord:
    """What is known of one packed layer.

    Attributes:
        kind: the torch class that it replaces, e.g. ``Conv2d``.
        weight: the format in which the weight is stored.
        input: the format of the input; None if it stays in floating point.
        shape: of the weight in torch's layout.
        dtype: of the weight before it was quantized, by PyTorch's name.
    """

    kind: str
    weight: Format
    input: Format | None
    shape: tuple[int, ...]
    dtype: str

    def to_json(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "weight": str(self.weight),
            "input": str(self.input) if self.input is not None else None,
            "shape": list(self.shape),
            "dtype": self.dtype,
        }

    @classmethod
    def from_json(cls, data: object) -> LayerRecord:
        """Raises InputError unless data is what ``to_json`` writes."""
        match data:
            case {
                "kind": str(kind),
                "weight": str(weight),
                "input": str() | None as input,
                "shape": [*shape],
                "dtype": str(dtype),
            } if kind.isprintable() and dtype in _DTYPES and all(type(size) is int and size > 0 for size in shape):
                parsed = Format.parse(input) if input is not None else None
                return cls(kind, Format.parse(weight), parsed, tuple(shape), dtype)
        raise InputError(f"{data!r} does not describe a packed layer")


@dataclass(frozen=True)
class Record:
    """What is known of a packed model beside its tensors.

    Attributes:
        layers: of each packed layer, by name.
        folded: names of the batch norms that became part of a layer, and of that layer.
        affine: names of the batch norms that became a scale and a shift for each channel.
        remade: PyTorch's names of the types of the buffers in floating point that are not stored but made anew with
            the model, by name.
        metadata: whatever was given to ``pack``, as JSON can hold it.
    """

    layers: Mapping[str, LayerRecord]
    folded: Mapping[str, str] = field(default_factory=dict)
    affine: tuple[str, ...] = ()
    remade: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "layers": {name: layer.to_json() for name, layer in self.layers.items()},
            "folded": dict(self.folded),
            "affine": list(self.affine),
            "remade": dict(self.remade),
            "metadata": dict(self.metadata),
        }

    @classmethod
    def from_json(cls, data: object) -> Record:
        """Raises InputError unless data is what ``to_json`` writes; other keys are ignored."""
        match data:
            case {
                "layers": dict(layers),
                "folded": dict(folded),
                "affine": [*affine],
                "remade": dict(remade),
                "metadata": dict(metadata),
            } if all(isinstance(dtype, str) and dtype in _DTYPES for dtype in remade.values()) and all(
                type(name) is str and name.isprintable()
                for name in [*layers, *folded, *folded.values(), *affine, *remade]
            ):
                records = {}
                for name, layer in layers.items():
                    try:
                        records[name] = LayerRecord.from_json(layer)
                    except InputError as e:
                        raise InputError(f"layer '{name}': {e}") from e
                return cls(records, folded, tuple(affine), remade, metadata)
        raise InputError("expected 'layers', 'folded', 'affine', 'remade' and 'metadata' of a packed model")


def remade_buffers(model: nn.Module) -> dict[str, str]:
    """Types of the buffers in floating point that no state dict has: a model may change its own after it was made."""
    return {
        f"{path}.{name}".lstrip("."): type_name(buffer.dtype)
        for path, module in model.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name in module._non_persistent_buffers_set and buffer.is_floating_point()
    }


def type_name(dtype: torch.dtype) -> str:
    """PyTorch's name of a type."""
    return str(dtype).removeprefix("torch.")
