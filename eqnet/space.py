"""The elastic space: which formats each layer may take, and how a subnet is drawn from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from eqnet.errors import InputError
from eqnet.formats import Format, Granularity, LayerFormat
from eqnet.subnet import Subnet


@dataclass(frozen=True)
class Layer:
    """What the search needs to know of one elastic layer; all counts are exact integers.

    Attributes:
        name: dotted path of the module.
        kind: class of the module it replaced, e.g. ``Conv2d``.
        rows: output channels, the rows of the weight as a matrix.
        cols: weights per output channel, the columns of that matrix.
        macs: multiply-accumulates in one forward of one sample, over all calls.
        inputs: input elements of one sample, over all calls.
        has_bias: whether the deployed layer has a bias (its own, or one that a batch norm folds into).
        stored: False for a layer whose weight another layer of its tied set stores already.
        folded: whether a batch norm becomes part of the layer when it is packed.
        depthwise: whether it is a grouped convolution with one input channel a group.
    """

    name: str
    kind: str
    rows: int
    cols: int
    macs: int
    inputs: int
    has_bias: bool = False
    stored: bool = True
    folded: bool = False
    depthwise: bool = False

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.rows * self.cols

    def stored_format(self, fmt: Format) -> Format:
        """What a weight of format ``fmt`` is stored in.

        A batch norm multiplies the scale of each output channel by a factor of its own, so one for the whole tensor
        becomes one for each channel.
        """
        if self.folded and fmt.granularity is Granularity.TENSOR:
            return replace(fmt, granularity=Granularity.CHANNEL)
        return fmt


@dataclass(frozen=True)
class TiedSet:
    """Layers that always share a format, and the formats that they may take; most sets hold one layer.

    Attributes:
        layers: the members, in the order in which they run.
        choices: the layer formats to choose from; weight-only members drop the activation format.
        edge: whether it holds the network's first or last layer.
    """

    layers: tuple[Layer, ...]
    choices: tuple[LayerFormat, ...]
    edge: bool = False

    @property
    def name(self) -> str:
        return self.layers[0].name


@dataclass(frozen=True)
class ElasticSpace:
    """Every subnet that a supernet can take: one choice for each tied set.

    A subnet is also written as *genes*: one index into ``choices`` for each tied set.

    Attributes:
        sets: the tied sets, in the order in which they run.
        weight_only: names of the layers whose input is never quantized (embeddings).
        scale_bits: stored width of a weight's scale: 32 or 16.
        float_bytes: bytes of the parameters and buffers that stay in floating point.
    """

    sets: tuple[TiedSet, ...]
    weight_only: frozenset[str] = frozenset()
    scale_bits: int = 32
    float_bytes: int = 0

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        return tuple(layer for tied in self.sets for layer in tied.layers)

    @cached_property
    def sizes(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Number of choices of each tied set, int64 [sets]."""
        return np.array([len(tied.choices) for tied in self.sets], dtype=np.int64)

    def member_format(self, layer: Layer, choice: LayerFormat) -> LayerFormat:
        """The format that ``layer`` runs when its tied set takes ``choice``."""
        return replace(choice, activation=None) if layer.name in self.weight_only else choice

    def subnet(self, genes: Sequence[int] | np.ndarray[Any, Any]) -> Subnet:
        """Names what the genes (int [sets]) stand for."""
        return Subnet(
            {
                layer.name: self.member_format(layer, tied.choices[int(gene)])
                for tied, gene in zip(self.sets, genes, strict=True)
                for layer in tied.layers
            }
        )

    def genes(self, subnet: Mapping[str, LayerFormat]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The inverse of ``subnet``, int64 [sets].

        Raises:
            InputError: a layer is missing or unknown, has a format outside the space, or departs from its tied set.
        """
        names = {layer.name for layer in self.layers}
        if set(subnet) != names:
            odd = sorted(set(subnet) ^ names)
            raise InputError(f"the subnet and the model disagree on these layers: {', '.join(odd)}")
        genes = np.empty(len(self.sets), dtype=np.int64)
        for i, (tied, index) in enumerate(zip(self.sets, self._indices, strict=True)):
            given = tuple(subnet[layer.name] for layer in tied.layers)
            if given not in index:
                odd_ones = ", ".join(f"{layer.name}: {fmt}" for layer, fmt in zip(tied.layers, given, strict=True))
                raise InputError(f"outside the elastic space (or not alike within a tied set): {odd_ones}")
            genes[i] = index[given]
        return genes

    @cached_property
    def _indices(self) -> list[dict[tuple[LayerFormat, ...], int]]:
        """For each tied set, the index of the choice that gives its members these formats."""
        return [
            {tuple(self.member_format(layer, c) for layer in tied.layers): i for i, c in enumerate(tied.choices)}
            for tied in self.sets
        ]

    def nearest(self, wanted: LayerFormat) -> Subnet:
        """The subnet whose every tied set takes the choice most like ``wanted``.

        Nearest in weight bits first, then in activation bits, then in granularity and symmetry; an edge set
        with a single width keeps it. ``nearest`` of a 4-bit format is therefore the uniform 4-bit network.
        """
        return self.subnet([_closest(tied.choices, wanted) for tied in self.sets])

    def draw(self, rng: np.random.Generator, bits: str = "any") -> Subnet:
        """Draws a choice for every tied set.

        Args:
            rng: the source of randomness.
            bits: ``highest`` or ``lowest`` for the widest or narrowest formats, whose granularity and symmetry alone
                are drawn; ``any`` for all.
        """
        pools = self._pools[bits]
        return self.subnet([pool[rng.integers(len(pool))] for pool in pools])

    @cached_property
    def _pools(self) -> dict[str, list[list[int]]]:
        """For each kind of draw and each tied set, the choices to draw from."""

        def width(choice: LayerFormat) -> tuple[int, int]:
            return choice.weight.bits, choice.activation.bits if choice.activation is not None else 0

        pools: dict[str, list[list[int]]] = {"any": [list(range(len(tied.choices))) for tied in self.sets]}
        for kind, pick in (("highest", max), ("lowest", min)):
            bounds = [pick(map(width, tied.choices)) for tied in self.sets]
            pools[kind] = [
                [i for i, choice in enumerate(tied.choices) if width(choice) == bound]
                for tied, bound in zip(self.sets, bounds, strict=True)
            ]
        return pools

    def restrict(self, why_not: Callable[[Layer, LayerFormat], str | None]) -> ElasticSpace:
        """The part of the space in which every layer's format is allowed.

        Args:
            why_not: what forbids a layer a format, in words; None if nothing does.

        Raises:
            InputError: nothing is left for some layer; the message names it, and a reason.
        """
        sets = []
        for tied in self.sets:
            choices, reasons = [], []
            for choice in tied.choices:
                against = [why_not(layer, self.member_format(layer, choice)) for layer in tied.layers]
                reasons += [reason for reason in against if reason is not None]
                if not any(against):
                    choices.append(choice)
            if not choices:
                raise InputError(
                    f"layer '{tied.name}': none of its {len(tied.choices)} formats is allowed ({reasons[-1]}); "
                    "widen the space"
                )
            sets.append(replace(tied, choices=tuple(choices)))
        return replace(self, sets=tuple(sets))

    def fingerprint(self) -> str:
        """A hash of everything in the space, hexadecimal."""
        content = [
            [
                [[layer.__dict__, layer.name in self.weight_only] for layer in tied.layers],
                [str(c) for c in tied.choices],
            ]
            for tied in self.sets
        ]
        text = json.dumps([content, self.scale_bits, self.float_bytes], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _closest(choices: Sequence[LayerFormat], wanted: LayerFormat) -> int:
    def unlike(a: Format | None, b: Format | None) -> tuple[int, int, int, int]:
        if a is None or b is None:
            return (0 if a is b else 9, 0, 0, 0)
        return (
            abs(a.bits - b.bits),
            a.granularity is not b.granularity,
            abs(a.group_size - b.group_size),
            a.symmetric is not b.symmetric,
        )

    def distance(choice: LayerFormat) -> tuple[int, ...]:
        weight, activation = (
            unlike(choice.weight, wanted.weight),
            unlike(choice.activation, wanted.activation),
        )
        return (weight[0], activation[0], *weight[1:], *activation[1:])

    return min(range(len(choices)), key=lambda i: distance(choices[i]))
