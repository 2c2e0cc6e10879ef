"""Codes of a language model's layers, by layer and format, made once.

A subnet is put together from them in the time that it takes to unpack them. In a folder there is one file for each
layer and format: ``PATH/FORMAT.safetensors`` with ``codes``, ``scale`` and, if asymmetric, ``zero_point``; its metadata
has the divergence that is expected of these codes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from eqnet.errors import ModelError, RunError
from eqnet.files import write_atomically
from eqnet.formats import Format
from eqnet.lm.methods import Method
from eqnet.lm.methods.codes import Codes
from eqnet.lm.sensitivity import Sensitivity
from eqnet.lm.workers import on_threads
from eqnet.packed.tensor import PackedTensor

Report = Callable[[str, int, int], None]

_DAMAGES = (OSError, SafetensorError, KeyError, TypeError, ValueError)
"""What reading a damaged file raises."""

_DRAWN_ROWS = 1024
"""Rows of a layer on which the divergence of codes is estimated where it has more."""


@dataclass(frozen=True, eq=False)
class Entry:
    """One layer in one format.

    Attributes:
        weight: as it is stored.
        nats: of divergence that it is expected to cause; of a weight that several layers share, in all of them.
    """

    weight: PackedTensor
    nats: float


@dataclass(frozen=True)
class Shared:
    """Layers with one weight, mostly a single one.

    Attributes:
        paths: of the layers; the first names the weight.
        hessian: the path of the one whose inputs the codes are fitted to.
    """

    paths: tuple[str, ...]
    hessian: str

    @property
    def name(self) -> str:
        return self.paths[0]


class Bank:
    """Codes by layer and format.

    Args:
        method: that makes them.
        scale: type of the scales.
        weight: gives the weight of a layer in floating point, float32 [rows, cols].
        sensitivity: gives that of the model; asked for only if codes are missing.
        folder: that keeps them; in memory if None.
        seed: of the rows that are drawn.
    """

    def __init__(
        self,
        method: Method,
        scale: torch.dtype,
        weight: Callable[[str], Tensor],
        sensitivity: Callable[[], Sensitivity],
        folder: Path | None = None,
        seed: int = 0,
    ) -> None:
        self._method, self._scale, self._weight, self._sensitivity = method, scale, weight, sensitivity
        self._folder, self._seed = folder, seed
        self._nats: dict[tuple[str, Format], float] = {}
        self._memory: dict[tuple[str, Format], Entry] = {}

    def prepare(self, wanted: Mapping[Shared, Iterable[Format]], report: Report | None = None) -> None:
        """Makes whatever of ``wanted`` is missing.

        Raises:
            ModelError: a layer cannot be quantized; the message names it.
            RunError: the folder cannot be written.
        """
        missing = {
            layers: [fmt for fmt in formats if not self._has(layers.name, fmt)] for layers, formats in wanted.items()
        }
        todo = [layers for layers, formats in missing.items() if formats]
        if todo:
            self._sensitivity()  # by one thread
        on_threads(lambda layers: self._make(layers, missing[layers]), todo, "Making codes", report)

    def entry(self, layers: Shared, fmt: Format) -> Entry:
        """One weight in one format; made now if it is missing.

        Raises:
            RunError: its file is damaged.
        """
        if not self._has(layers.name, fmt):
            self._make(layers, [fmt])
        return self._memory[layers.name, fmt] if self._folder is None else self._read(layers.name, fmt)

    def nats(self, layers: Shared, fmt: Format) -> float:
        """``entry(layers, fmt).nats``, without reading the codes again."""
        key = layers.name, fmt
        if key not in self._nats:
            kept = self._folder is not None and self._has(layers.name, fmt)
            self._nats[key] = self._read_nats(layers.name, fmt) if kept else self.entry(layers, fmt).nats
        return self._nats[key]

    def _make(self, layers: Shared, formats: Sequence[Format]) -> None:
        weight, sensitivity = self._weight(layers.name), self._sensitivity()
        try:
            for codes in self._method.codes(weight, formats, self._scale, sensitivity.inputs[layers.hessian]):
                nats = sum(self._expected(codes, path, layers.hessian) for path in layers.paths)
                self._keep(layers.name, codes.format, Entry(codes.packed(), nats))
        except ModelError as e:
            raise ModelError(f"layer '{layers.name}': {e}") from e

    def _expected(self, codes: Codes, path: str, hessian: str) -> float:
        """The divergence that codes are expected to cause in one of the layers that share them."""
        sensitivity, count = self._sensitivity(), len(codes.error)
        if count <= _DRAWN_ROWS or (path == hessian and codes.forms is not None):
            return sensitivity.of_codes(path, codes, hessian)
        drawn = sensitivity.drawn(path, _DRAWN_ROWS, self._seed)
        return sensitivity.divergence(path, codes.error[drawn], drawn)

    def _keep(self, name: str, fmt: Format, entry: Entry) -> None:
        self._nats[name, fmt] = entry.nats
        if self._folder is None:
            self._memory[name, fmt] = entry
            return
        weight = entry.weight
        parts = {"codes": weight.codes, "scale": weight.scale}
        if weight.zero_point is not None:
            parts["zero_point"] = weight.zero_point
        metadata = {"rows": str(weight.rows), "cols": str(weight.cols), "nats": repr(entry.nats)}
        write_atomically(self._path(name, fmt), save(parts, metadata))

    def _has(self, name: str, fmt: Format) -> bool:
        return (name, fmt) in self._nats or (self._folder is not None and self._path(name, fmt).exists())

    def _read(self, name: str, fmt: Format) -> Entry:
        path = self._path(name, fmt)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                parts = {part: file.get_tensor(part) for part in file.keys()}  # noqa: SIM118 (not a dict)
            rows, cols, nats = int(metadata["rows"]), int(metadata["cols"]), float(metadata["nats"])
            weight = PackedTensor(fmt, rows, cols, parts["codes"], parts["scale"], parts.get("zero_point"))
        except _DAMAGES as e:
            raise _damaged(path, e) from e
        return Entry(weight, nats)

    def _read_nats(self, name: str, fmt: Format) -> float:
        path = self._path(name, fmt)
        try:
            with safe_open(path, framework="pt") as file:
                return float(file.metadata()["nats"])
        except _DAMAGES as e:
            raise _damaged(path, e) from e

    def _path(self, name: str, fmt: Format) -> Path:
        assert self._folder is not None
        return self._folder / name / f"{str(fmt).replace(':', '-')}.safetensors"


def _damaged(path: Path, reason: Exception) -> RunError:
    return RunError(f"{path}: cannot be read as codes ({reason}); remove it, or start over with --fresh")
