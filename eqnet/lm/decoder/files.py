"""A decoder straight from the files of an artifact, without PyTorch and without transformers.

What an artifact is made of is known by the names of its tensors and by its configuration; whoever builds the model by
transformers finds the same. An artifact with anything else in it, or without something, is left to that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eqnet.errors import InputError
from eqnet.lm.decoder.blocks import Table, UnknownBlockError, Vector
from eqnet.lm.decoder.engine import Decoder
from eqnet.lm.decoder.families import FAMILIES, Family
from eqnet.lm.decoder.positions import frequencies
from eqnet.lm.decoder.reading import Attention, Paths, blocks_of
from eqnet.native import check_compute, default_threads
from eqnet.packed.artifact import Artifact
from eqnet.packed.layout import Spec, check_parts
from eqnet.packed.panels import Bytes, Matrix, MatrixPanels, Outline
from eqnet.packed.record import Record

_BASE, _HEAD = "model", "lm_head"
_TABLE = f"{_BASE}.embed_tokens"

_WIDEST = 1 << 14
"""Elements of a head, which bounds what is made before sizes are compared."""


def open_decoder(
    artifact: Artifact, *, compute: str = "float", threads: int | None = None, context: int | None = None
) -> Decoder:
    """A decoder of a packed language model, every byte of which is checked.

    Args:
        artifact: opened.
        compute: how products are taken.
        threads: how many to use; see ``default_threads``.
        context: most tokens of a text; what the model's configuration says if None.

    Raises:
        UnknownBlockError: the family, or something of this model, is not known.
        InputError: the context is longer than the model's.
        RunError: a tensor is damaged.
    """
    check_compute(compute)
    names = artifact.config.get("architectures")
    name = names[0] if isinstance(names, list) and len(names) == 1 else None
    family = FAMILIES.get(name) if isinstance(name, str) else None
    if family is None or artifact.config.get("model_type") != family.model_type:
        kind = artifact.config.get("model_type")
        raise UnknownBlockError(f"{names} of type {kind!r} is none of {', '.join(FAMILIES)}")
    count = threads or default_threads()
    parts = _Files(artifact, family, count)
    blocks = blocks_of(parts, family)
    parts.check_complete(blocks.head.layer.rows, blocks.hidden)
    longest = parts.entry("max_position_embeddings")
    if type(longest) is not int:
        raise UnknownBlockError(f"max_position_embeddings are {longest!r}")
    decoder = Decoder(blocks, str(name), longest=longest, context=context, compute=compute, threads=lambda: count)
    decoder.prepare()
    return decoder


class _Files:
    """The parts of an artifact of a family; see ``Parts``."""

    def __init__(self, artifact: Artifact, family: Family, threads: int) -> None:
        self._artifact, self._family, self._threads = artifact, family, threads
        self._record, self._tied = artifact.record()
        self._used: set[str] = set()
        self._layers: dict[str, _FileLayer] = {}
        self._check_plain(self._record)
        self._children = _children([*artifact.specs, *self._tied])
        count = len(self.children(f"{_BASE}.layers"))
        if self.entry("num_hidden_layers") != count:
            raise UnknownBlockError(f"num_hidden_layers are {self.entry('num_hidden_layers')!r}; there are {count}")
        self.paths = Paths(tuple(f"{_BASE}.layers.{index}" for index in range(count)), f"{_BASE}.norm", _HEAD)

    def entry(self, name: str) -> Any:
        """See ``Parts``."""
        return self._artifact.config.get(name)

    def children(self, path: str) -> set[str]:
        """See ``Parts``."""
        return self._children.get(path, set())

    @cached_property
    def table(self) -> Table:
        """See ``Parts``."""
        outline, scale = self.outline(_TABLE, "Embedding"), self.entry("hidden_size") ** 0.5
        table = _FileTable(
            self.matrix(_TABLE, outline),
            self._record.layers[_TABLE].dtype,
            scale if self._family.scaled else None,
            self._threads,
        )
        self.release(_TABLE)  # only the rows of a text are read again
        return table

    def linear(self, path: str) -> _FileLayer:
        """See ``Parts``."""
        if path not in self._layers:
            self._layers[path] = _FileLayer(self, path, self._threads)
        return self._layers[path]

    def norm(self, path: str, epsilon: float) -> Vector:
        """See ``Parts``; the configuration has one epsilon for all."""
        spec, data = self._spec(f"{path}.weight"), self._data(f"{path}.weight")
        if len(spec.shape) != 1 or spec.dtype not in _FLOATS:
            raise UnknownBlockError(f"'{path}' has weights in {spec}")
        return _FLOATS[spec.dtype](data)

    def attention(self, path: str) -> Attention:
        """See ``Parts``."""
        if self.entry("use_bidirectional_attention"):
            raise UnknownBlockError(f"'{path}' sees tokens that are still to come")
        scalar = self.entry(self._family.scalar) if self._family.scalar else self._head_dim
        return Attention(self._head_dim, float(scalar) ** -0.5)

    def positions(self, kind: str) -> tuple[Vector, float]:
        """See ``Parts``."""
        entries = self.entry("rope_parameters")
        if isinstance(entries, dict) and isinstance(entries.get(kind), dict):
            entries = entries[kind]
        if not isinstance(entries, dict):
            raise UnknownBlockError(f"rope_parameters are {entries!r}")
        longest = self.entry("max_position_embeddings")
        return frequencies(entries, self._head_dim, longest, partial=self._family.partial)

    def check_complete(self, vocabulary: int, hidden: int) -> None:
        """Raises UnknownBlockError if a tensor was not asked for, or the embedding is not of the head's size."""
        table = self._record.layers[_TABLE].shape
        if table != (vocabulary, hidden) or vocabulary != self.entry("vocab_size"):
            raise UnknownBlockError(f"'{_TABLE}' is of shape {table}; the head has {vocabulary} tokens of {hidden}")
        others = sorted(set(self._artifact.specs) - self._used) + sorted(
            set(self._record.layers) - {*self._layers, _TABLE}
        )
        if others:
            raise UnknownBlockError(f"'{others[0]}' is no part of its family")

    def outline(self, path: str, kind: str) -> Outline:
        """What a layer of ``kind`` is like; nothing of it is read."""
        record = self._record.layers.get(path)
        if record is None or record.kind != kind or record.input is not None or len(record.shape) != 2:
            raise UnknownBlockError(f"'{path}' is not packed, or no {kind} with inputs in floating point")
        parts = {"codes", "scale"} | (set() if record.weight.symmetric else {"zero_point"})
        if self.children(path) - {"bias"} != parts:
            raise UnknownBlockError(f"'{path}' has {', '.join(sorted(self.children(path)))}")
        rows, cols = record.shape
        specs = {part: self._spec(f"{path}.{part}") for part in parts}
        try:
            check_parts(record.weight, rows, cols, specs["codes"], specs["scale"], specs.get("zero_point"))
        except InputError as e:
            raise UnknownBlockError(f"'{path}': {e}") from e
        return Outline(record.weight, rows, cols, specs["scale"].dtype)

    def matrix(self, path: str, outline: Outline) -> Matrix:
        """The layer as it is stored, checked."""
        zero_point = None if outline.format.symmetric else self._data(f"{path}.zero_point")
        return Matrix(
            outline.format,
            outline.rows,
            outline.cols,
            outline.scale_type,
            self._data(f"{path}.codes"),
            self._data(f"{path}.scale"),
            zero_point,
        )

    def bias(self, path: str, rows: int) -> Vector | None:
        """Of a linear layer."""
        if "bias" not in self.children(path):
            return None
        if self._spec(f"{path}.bias") != Spec("float32", (rows,)):
            raise UnknownBlockError(f"'{path}' has a bias in {self._spec(f'{path}.bias')}")
        return self._data(f"{path}.bias").view(np.float32).copy()

    def release(self, path: str) -> None:
        """Gives the memory of what a layer is made of back to the files."""
        for part in self.children(path) - {"bias"}:
            self._artifact.release(self._first(f"{path}.{part}"))

    @property
    def _head_dim(self) -> int:
        found = int(self.entry("head_dim") or self.entry("hidden_size") // self.entry("num_attention_heads"))
        if not 1 <= found <= _WIDEST:
            raise UnknownBlockError(f"heads are {found} wide")
        return found

    def _check_plain(self, record: Record) -> None:
        if record.folded or record.affine or set(record.remade.values()) - {"float32"}:
            raise UnknownBlockError("there are folded norms, or positions in another type than float32")

    def _first(self, name: str) -> str:
        """Under which name a tensor is stored."""
        return self._tied.get(name, name)

    def _spec(self, name: str) -> Spec:
        spec = self._artifact.specs.get(self._first(name))
        if spec is None:
            raise UnknownBlockError(f"there is no '{name}'")
        self._used.add(self._first(name))
        return spec

    def _data(self, name: str) -> Bytes:
        return self._artifact.data(self._first(name))


class _FileLayer:
    """See ``Weight``."""

    def __init__(self, files: _Files, path: str, threads: int) -> None:
        self._files, self._path, self._threads = files, path, threads
        self._outline = files.outline(path, "Linear")
        self.rows, self.cols, self.room = self._outline.rows, self._outline.cols, self._outline.room
        self.bias = files.bias(path, self.rows)
        self._made: MatrixPanels | None = None

    def prepare(self, memory: Bytes) -> None:
        """See ``Weight``; the memory of the files is given back."""
        self._made = MatrixPanels.of(self._files.matrix(self._path, self._outline), memory, self._threads)
        self.room = 0
        self._files.release(self._path)

    @property
    def panels(self) -> MatrixPanels:
        """See ``Weight``."""
        assert self._made is not None
        return self._made


class _FileTable:
    """See ``Table``; a row has the precision that it had in the type of the table, before that was quantized."""

    def __init__(self, matrix: Matrix, dtype: str, scale: float | None, threads: int) -> None:
        self._matrix, self._threads = matrix, threads
        self._rounded = _ROUNDED.get(dtype)
        if self._rounded is None:
            raise UnknownBlockError(f"'{_TABLE}' was of type {dtype}")
        self._scale = None if scale is None else self._rounded(np.array([scale], np.float32))

    def rows(self, ids: NDArray[np.int64]) -> Vector:
        """See ``Table``."""
        assert self._rounded is not None
        rows = self._rounded(self._matrix.gather(ids, self._threads))
        return rows if self._scale is None else self._rounded(rows * self._scale)


def _children(names: list[str]) -> Mapping[str, set[str]]:
    """Names of the parts of each part."""
    found: dict[str, set[str]] = {}
    for name in names:
        while name:
            name, _, leaf = name.rpartition(".")
            found.setdefault(name, set()).add(leaf)
    return found


def _bfloat16(values: Vector) -> Vector:
    """Rounded to bfloat16, half to even."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


_ROUNDED: Mapping[str, Callable[[Vector], Vector]] = {
    "float32": lambda values: values,
    "float16": lambda values: values.astype(np.float16).astype(np.float32),
    "bfloat16": _bfloat16,
}
"""Values of float32 as they are after another type, by that."""

_FLOATS: Mapping[str, Callable[[Bytes], Vector]] = {
    "float32": lambda data: data.view(np.float32).copy(),
    "float16": lambda data: data.view(np.float16).astype(np.float32),
    "bfloat16": lambda data: (data.view(np.uint16).astype(np.uint32) << 16).view(np.float32),
}
"""Bytes of types as float32."""
