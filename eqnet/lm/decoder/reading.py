"""The blocks of a model of a known family, found in its parts: those of an artifact, or of a model in memory.

All that could change what a block computes is looked at: which parts there are, and the entries of the configuration
that the family's code reads. What is not known is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from eqnet.lm.decoder.blocks import Block, Blocks, Channels, Rotation, Table, UnknownBlockError, Vector, Weight
from eqnet.lm.decoder.families import ACTIVATIONS, Family
from eqnet.packed.panels import PANEL


@dataclass(frozen=True)
class Paths:
    """Where the parts of a model are; see ``eqnet.lm.structure.Structure``."""

    blocks: tuple[str, ...]
    norm: str
    head: str


@dataclass(frozen=True)
class Attention:
    """What a block's attention says of itself; ``scale`` is of products of queries and keys."""

    head_dim: int
    scale: float


class Parts(Protocol):
    """What a model is read from; every method raises UnknownBlockError for what the decoder does not run."""

    @property
    def paths(self) -> Paths:
        """Where its parts are."""

    @property
    def table(self) -> Table:
        """Its embedding."""

    def entry(self, name: str) -> Any:
        """Of the configuration; None if it is not there."""

    def children(self, path: str) -> set[str]:
        """Names of the parts of a part."""

    def linear(self, path: str) -> Weight:
        """A packed linear layer; the same object each time."""

    def norm(self, path: str, epsilon: float) -> Vector:
        """The weights of an RMS norm, float32."""

    def attention(self, path: str) -> Attention:
        """Of a block's attention, which sees no tokens that are still to come."""

    def positions(self, kind: str) -> tuple[Vector, float]:
        """Frequencies of the positions of a type of layer, and the scale of cosines and sines."""


def blocks_of(parts: Parts, family: Family) -> Blocks:
    """The blocks of a packed causal language model.

    Raises:
        UnknownBlockError: something of this model is not known.
    """
    try:
        return _Reading(parts, family).blocks()
    except (TypeError, ValueError, IndexError, ArithmeticError) as e:
        raise UnknownBlockError(f"the configuration is not as the family's is ({e!r})") from e


class _Reading:
    """Looks through the parts."""

    def __init__(self, parts: Parts, family: Family) -> None:
        self._parts, self._family, self._paths = parts, family, parts.paths
        self._epsilon = float(parts.entry("rms_norm_eps"))
        self._types = self._layer_types()
        self._rotations = {kind: self._rotation(kind) for kind in dict.fromkeys(self._types)}

    def blocks(self) -> Blocks:
        parts, family, paths = self._parts, self._family, self._paths
        activation = parts.entry(family.activation)
        if activation not in ACTIVATIONS:
            raise UnknownBlockError(f"{family.activation} is '{activation}'; known are {', '.join(ACTIVATIONS)}")
        attentions = {parts.attention(f"{path}.self_attn") for path in paths.blocks}
        if len(attentions) != 1:
            raise UnknownBlockError("there are no blocks, or their heads differ")
        attention = attentions.pop()
        softcap = parts.entry("attn_logit_softcapping") if family.softened else 0
        made = Blocks(
            table=parts.table,
            rotations=tuple(self._rotations.values()),
            blocks=tuple(self._block(index, path) for index, path in enumerate(paths.blocks)),
            norm=self._norm(paths.norm),
            head=self._linear(paths.head),
            heads=int(parts.entry("num_attention_heads")),
            kv_heads=int(parts.entry("num_key_value_heads")),
            head_dim=attention.head_dim,
            activation=ACTIVATIONS[activation],
            epsilon=self._epsilon,
            scale=attention.scale,
            softcap=float(softcap or 0),
            logit_softcap=float(parts.entry("final_logit_softcapping") or 0),
        )
        _check_sizes(made)
        return made

    def _layer_types(self) -> list[str]:
        count = len(self._paths.blocks)
        if self._family.window == "layer_types":
            types = list(self._parts.entry("layer_types"))
            if len(types) < count:
                raise UnknownBlockError(f"layer_types are {len(types)}, for {count} blocks")
            return types[:count]
        sliding = self._family.window == "all" and self._parts.entry("sliding_window") is not None
        return ["sliding_attention" if sliding else "full_attention"] * count

    def _rotation(self, kind: str) -> Rotation:
        found, scale = self._parts.positions(kind)
        return Rotation(tuple(found.tolist()), scale, self._family.interleaved)

    def _block(self, index: int, path: str) -> Block:
        parts, attention, mlp = self._parts, f"{path}.self_attn", f"{path}.mlp"
        before, after_attention, before_mlp, after_mlp = self._family.norms
        self._expect(path, {"self_attn", "mlp", *(name for name in self._family.norms if name is not None)})
        joined = "gate_up_proj" in parts.children(mlp)
        projections = {"gate_up_proj"} if joined else {"gate_proj", "up_proj"}
        self._expect(mlp, {*projections, "down_proj"}, {"act_fn", "activation_fn"})
        normed = {"q_norm", "k_norm"} if "q_norm" in parts.children(attention) else set()
        self._expect(attention, {"q_proj", "k_proj", "v_proj", "o_proj", *normed})
        kind = self._types[index]
        if kind not in ("full_attention", "sliding_attention"):
            raise UnknownBlockError(f"'{path}' is of type '{kind}'")
        gate, up = self._halves(f"{mlp}.gate_up_proj") if joined else (None, None)
        return Block(
            attention_norm=self._norm(f"{path}.{before}"),
            query_norm=self._norm(f"{attention}.q_norm") if normed else None,
            key_norm=self._norm(f"{attention}.k_norm") if normed else None,
            after_attention=self._norm(f"{path}.{after_attention}") if after_attention else None,
            mlp_norm=self._norm(f"{path}.{before_mlp}"),
            after_mlp=self._norm(f"{path}.{after_mlp}") if after_mlp else None,
            query=self._linear(f"{attention}.q_proj"),
            key=self._linear(f"{attention}.k_proj"),
            value=self._linear(f"{attention}.v_proj"),
            output=self._linear(f"{attention}.o_proj"),
            gate=gate or self._linear(f"{mlp}.gate_proj"),
            up=up or self._linear(f"{mlp}.up_proj"),
            down=self._linear(f"{mlp}.down_proj"),
            rotation=list(self._rotations).index(kind) if self._is_turned(index) else -1,
            window=self._window() if kind == "sliding_attention" else 0,
        )

    def _window(self) -> int:
        window = int(self._parts.entry("sliding_window"))
        if not 0 < window < 1 << 62:
            raise UnknownBlockError(f"sliding_window is {window}")
        return window

    def _is_turned(self, index: int) -> bool:
        return not self._family.unturned or bool(self._parts.entry(self._family.unturned)[index])

    def _expect(self, path: str, names: set[str], others: Iterable[str] = ()) -> None:
        found = self._parts.children(path).difference(others)
        if found != names:
            different = ", ".join(sorted(found ^ names))
            raise UnknownBlockError(f"'{path}' has other modules than those of its family: {different}")

    def _norm(self, path: str) -> Vector:
        weights = self._parts.norm(path, self._epsilon)
        with np.errstate(invalid="ignore"):  # NaN of a damaged file, which stays NaN
            return np.ascontiguousarray(weights + np.float32(self._family.offset))

    def _linear(self, path: str) -> Channels:
        layer = self._parts.linear(path)
        return Channels(layer, 0, layer.rows)

    def _halves(self, path: str) -> tuple[Channels, Channels]:
        """Gate and up, of one layer."""
        layer = self._parts.linear(path)
        half = layer.rows // 2
        if half % PANEL:
            raise UnknownBlockError(f"'{path}' has halves of {half} channels, no multiple of {PANEL}")
        return Channels(layer, 0, half), Channels(layer, half, 2 * half)


def _check_sizes(made: Blocks) -> None:
    """Raises UnknownBlockError unless all layers fit each other."""
    hidden, queries = made.hidden, made.heads * made.head_dim
    keys, inner = made.kv_heads * made.head_dim, made.intermediate
    fits = made.heads % made.kv_heads == 0 and made.norm.shape == (hidden,)
    for rotation in made.rotations:
        fits &= 2 * len(rotation.frequencies) <= made.head_dim
    for block in made.blocks:
        sizes = {
            block.query: (queries, hidden),
            block.key: (keys, hidden),
            block.value: (keys, hidden),
            block.output: (hidden, queries),
            block.gate: (inner, hidden),
            block.up: (inner, hidden),
            block.down: (hidden, inner),
        }
        fits &= all((part.stop - part.start, part.layer.cols) == size for part, size in sizes.items())
        wide = (block.attention_norm, block.after_attention, block.mlp_norm, block.after_mlp)
        fits &= all(norm is None or norm.shape == (hidden,) for norm in wide)
        fits &= all(norm is None or norm.shape == (made.head_dim,) for norm in (block.query_norm, block.key_norm))
    if not fits:
        raise UnknownBlockError("layers, norms and positions do not fit each other")
