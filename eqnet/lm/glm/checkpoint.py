"""What a checkpoint of GLM is once it is open: its sizes, and for each process its weights by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from torch import Tensor

from eqnet.errors import InputError
from eqnet.packed.tensor import PackedTensor

Weight = PackedTensor | Tensor
"""Quantized, [rows, cols]; or in floating point, as it is stored."""


class Kind(str, Enum):
    """Which family's names and arrangement a checkpoint has."""

    GLM_130B = "GLM-130B"
    CHATGLM = "ChatGLM-6B"
    CHATGLM2 = "ChatGLM2"
    """ChatGLM3 and GLM-4, which followed, included."""


@dataclass(frozen=True)
class Sizes:
    """What a checkpoint's tensors say of its model.

    Attributes:
        layers: number of blocks.
        hidden: width of the residual stream.
        attention: width of all heads' values together.
        inner: width between the two layers of an MLP.
        vocabulary: rows of the embedding.
        gated: whether an MLP's first layer makes a gate as well, so that it has 2 · ``inner`` rows.
        heads: of the queries; None if the checkpoint does not tell.
        groups: heads of keys and values, where q, k and v lie one behind the other; None where each head has its own.
        bits: of the quantized weights, 4 or 8; None in floating point.
    """

    layers: int
    hidden: int
    attention: int
    inner: int
    vocabulary: int
    gated: bool
    heads: int | None
    groups: int | None
    bits: int | None


class Part(Mapping[str, Weight]):
    """The weights of one process by name, each made when it is asked for and kept by nobody.

    Args:
        names: of all of them.
        make: a weight by its name, and whether its codes may be left out; see ``outline``.
    """

    def __init__(self, names: Iterable[str], make: Callable[[str, bool], Weight]) -> None:
        self._names = dict.fromkeys(names)
        self._make = make

    def __getitem__(self, name: str) -> Weight:
        return self._checked(name, False)

    def outline(self, name: str) -> Weight:
        """The weight with its codes on the meta device: of them nothing is read, and all else is as it will be."""
        return self._checked(name, True)

    def _checked(self, name: str, without_codes: bool) -> Weight:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name, without_codes)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@dataclass(frozen=True)
class GlmCheckpoint:
    """A checkpoint, opened; of its weights nothing is held.

    Attributes:
        folder: where it is.
        kind: whose names the weights have.
        sizes: of the model.
        config: the checkpoint's own ``config.json`` or ``model_config.json``; empty if it has none.
        parts: for each process its weights by name.
    """

    folder: Path
    kind: Kind
    sizes: Sizes
    config: Mapping[str, object]
    parts: tuple[Part, ...]

    @property
    def degree(self) -> int:
        """How many processes share the model."""
        return len(self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the weights, which every process has its part of."""
        return tuple(self.parts[0])

    @property
    def weights(self) -> Part:
        """The weights of a checkpoint that is in one piece.

        Raises:
            InputError: several processes share it.
        """
        if self.degree > 1:
            raise InputError(f"{self.folder}: is in {self.degree} parts; merge them first: resharded(checkpoint, 1)")
        return self.parts[0]
