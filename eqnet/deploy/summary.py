"""What an artifact holds, told from its files alone: the model is not built."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eqnet.deploy.origin import Origin
from eqnet.errors import InputError, RunError
from eqnet.packed.artifact import VERSION, Artifact
from eqnet.packed.record import LayerRecord, Record

_WEIGHT = ("codes", "scale", "zero_point")
_PARTS = (*_WEIGHT, "bias", "input_scale", "input_zero_point")


@dataclass(frozen=True)
class LayerSummary:
    """One packed layer.

    Attributes:
        name: dotted path of the module.
        record: formats and shape.
        nbytes: of what it stores; what it shares is counted with the layer that comes first.
        weight_bytes: of them, codes, scales and zero points; 0 if another layer stores them.
        folded: names of the batch norms in it.
    """

    name: str
    record: LayerRecord
    nbytes: int
    weight_bytes: int
    folded: tuple[str, ...]

    @property
    def weights(self) -> int:
        """Number of weights."""
        return math.prod(self.record.shape)


@dataclass(frozen=True)
class Summary:
    """What an artifact holds.

    Attributes:
        folder: where it is.
        architecture: the class of its model.
        written_by: name and version of the program that wrote it.
        version: of the layout.
        layers: by name, ``body.9`` before ``body.10``.
        affine: batch norms that became a scale and a shift.
        floating: bytes of each tensor that is part of no packed layer.
        nbytes: of all tensors.
        overhead: bytes of the files beyond the tensors.
        origin: what the artifact says of where it comes from.
    """

    folder: Path
    architecture: str
    written_by: str
    version: int
    layers: tuple[LayerSummary, ...]
    affine: tuple[str, ...]
    floating: dict[str, int]
    nbytes: int
    overhead: int
    origin: Origin | None

    @property
    def bpw(self) -> float:
        """Stored bits per weight: codes, scales and zero points."""
        stored = [layer for layer in self.layers if layer.weight_bytes]
        return 8 * sum(layer.weight_bytes for layer in stored) / max(sum(layer.weights for layer in stored), 1)


def summarize(folder: Path, report: Callable[[str, int, int], None] | None = None) -> Summary:
    """Reads an artifact and checks every byte of it.

    Raises:
        RunError: a file is missing, damaged or newer than this eqnet.
    """
    artifact = Artifact.open(folder)
    for done, name in enumerate(artifact.names):
        artifact.tensor(name)
        artifact.release(name)
        if report is not None:
            report("Checking tensors", done + 1, len(artifact.names))
    stored = artifact.config.get("quantization_config")
    try:
        record = Record.from_json(stored)
        origin = Origin.from_json(record.metadata)
    except InputError as e:
        raise RunError(f"{folder / 'config.json'}: {e}; the file is damaged, export again") from e
    sizes = {name: spec.nbytes for name, spec in artifact.specs.items()}
    layers = tuple(_layer(name, record.layers[name], record, sizes) for name in sorted(record.layers, key=by_number))
    packed = {f"{name}.{part}".lstrip(".") for name in record.layers for part in _PARTS}
    return Summary(
        folder=folder,
        architecture=_architecture(artifact),
        written_by=artifact.written_by,
        version=VERSION,
        layers=layers,
        affine=record.affine,
        floating={name: size for name, size in sizes.items() if name not in packed},
        nbytes=artifact.nbytes,
        overhead=artifact.overhead,
        origin=origin,
    )


def by_number(name: str) -> list[tuple[int, str]]:
    """Sorts names of layers: ``body.9`` before ``body.10``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]


def _layer(name: str, layer: LayerRecord, record: Record, sizes: dict[str, int]) -> LayerSummary:
    own = {part: sizes.get(f"{name}.{part}".lstrip("."), 0) for part in _PARTS}
    folded = tuple(norm for norm, into in record.folded.items() if into == name)
    return LayerSummary(name, layer, sum(own.values()), sum(own[part] for part in _WEIGHT), folded)


def _architecture(artifact: Artifact) -> str:
    match artifact.config:
        case {"architecture": {"network": str(name)} | {"class": str(name)}}:
            return name
        case {"architectures": [str(name), *_]}:
            return name
    return "unknown"
