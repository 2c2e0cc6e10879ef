"""What the blocks of a language model compute, and on which packed layers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from eqnet.errors import ModelError
from eqnet.packed.panels import Bytes, MatrixPanels

Vector = NDArray[np.float32]


class UnknownBlockError(ModelError):
    """The model does something that the decoder does not; the message names it. transformers runs it."""


@dataclass(frozen=True)
class Rotation:
    """See cpp/include/eqnet/decoder.h."""

    frequencies: tuple[float, ...]
    scale: float
    interleaved: bool


class Weight(Protocol):
    """A packed linear layer."""

    @property
    def rows(self) -> int:
        """Its outputs."""

    @property
    def cols(self) -> int:
        """Its inputs."""

    @property
    def bias(self) -> Vector | None:
        """float32 [rows], if it has one."""

    @property
    def room(self) -> int:
        """Bytes that ``prepare`` needs; 0 if there is nothing to do any more."""

    def prepare(self, memory: Bytes) -> None:
        """Orders the weight as the kernels read it, in uint8 [room], which begins at a line."""

    @property
    def panels(self) -> MatrixPanels:
        """What ``prepare`` made."""


class Table(Protocol):
    """The embedding."""

    def rows(self, ids: NDArray[np.int64]) -> Vector:
        """Those of tokens, float32 [T, hidden], which the caller may overwrite; raises IndexError for other ids."""


@dataclass(frozen=True, eq=False)
class Channels:
    """Some of the output channels of a linear layer, the first one a multiple of 32."""

    layer: Weight
    start: int
    stop: int


@dataclass(frozen=True, eq=False)
class Block:
    """One decoder block; norms are float32."""

    attention_norm: Vector
    query_norm: Vector | None
    key_norm: Vector | None
    after_attention: Vector | None
    mlp_norm: Vector
    after_mlp: Vector | None
    query: Channels
    key: Channels
    value: Channels
    output: Channels
    gate: Channels
    up: Channels
    down: Channels
    rotation: int
    window: int


@dataclass(frozen=True, eq=False)
class Blocks:
    """A whole model.

    Attributes:
        table: its embedding.
        rotations: that blocks refer to by their index.
        blocks: in their order.
        norm: behind them.
        head: that makes the logits.
        heads, kv_heads, head_dim: of attention.
        activation: one of ``ACTIVATIONS``.
        epsilon: of the norms.
        scale, softcap: of the scores of attention; no cap if 0.
        logit_softcap: no cap if 0.
    """

    table: Table
    rotations: tuple[Rotation, ...]
    blocks: tuple[Block, ...]
    norm: Vector
    head: Channels
    heads: int
    kv_heads: int
    head_dim: int
    activation: int
    epsilon: float
    scale: float
    softcap: float
    logit_softcap: float

    @property
    def hidden(self) -> int:
        """Elements of an embedded token."""
        return self.head.layer.cols

    def layers(self) -> Iterator[Weight]:
        """All linear layers in the order in which they run; one that is joined comes as often as it has parts."""
        for block in self.blocks:
            for part in (block.query, block.key, block.value, block.output, block.gate, block.up, block.down):
                yield part.layer
        yield self.head.layer

    @property
    def intermediate(self) -> int:
        """Elements between the two halves of an MLP."""
        return self.blocks[0].down.layer.cols
