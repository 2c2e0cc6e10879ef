"""eqnet's own engine: one program on integers where networks are such, else kernels and PyTorch, layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from eqnet import _kernels
from eqnet.bench.timing import Call
from eqnet.formats import MAX_BITS, Format, Granularity, LayerFormat
from eqnet.packed.layers import PackedLayer
from eqnet.packed.model import PackedModel
from eqnet.packed.record import Record
from eqnet.runtime import UnsupportedError, compile
from eqnet.runtime.engine import engine_for
from eqnet.search.latency.engine import Timed
from eqnet.space import ElasticSpace, Layer

_INPUT = Format(MAX_BITS, False)
"""Stands for every format of an input: codes are bytes while they are computed with, whatever their width."""


@dataclass(frozen=True)
class OwnEngine:
    """eqnet's kernels.

    Attributes:
        whole: whether networks run as one program on integers.
    """

    whole: bool
    values: ClassVar[bool] = False

    @classmethod
    def opened(cls, some: PackedModel, example: Tensor, space: ElasticSpace, threads: int) -> OwnEngine:
        """For a space: where some layers can stay in floating point, most networks are no programs on integers."""
        quantized = all(choice.activation is not None for tied in space.sets for choice in tied.choices)
        return cls(engine_for(some, example).whole and quantized)

    def __str__(self) -> str:
        return "in a program" if self.whole else "by itself"

    def stand_in(self, layer: Layer, fmt: LayerFormat) -> LayerFormat:
        """See ``Kernels``.

        The time depends on shapes, and

        * in a program of the whole network, whose weights are unpacked to bytes when it is compiled: on the size of
          groups, and on whether codes less zero points go beyond a byte, as they can for asymmetric codes of 8 bits
          alone;
        * else, in a linear layer, whose kernels read packed weights: on the width of the weight, the size of its groups
          and whether it has zero points; and on whether the input is quantized;
        * else, where weights are unpacked in each call: on the whole format of the weight, and on whether the input is
          quantized.
        """
        weight = layer.stored_format(fmt.weight)
        activation = _INPUT if fmt.activation is not None else None
        if not self.whole and layer.kind != "Linear":
            return LayerFormat(weight, activation)
        bits, symmetric = weight.bits, weight.symmetric
        if self.whole:
            bits, symmetric = MAX_BITS, symmetric or bits < MAX_BITS
        if weight.group_size and weight.group_size < layer.cols:
            return LayerFormat(Format(bits, symmetric, Granularity.GROUP, weight.group_size), activation)
        return LayerFormat(Format(bits, symmetric, Granularity.CHANNEL), activation)

    def layers(self, formats: Sequence[PackedLayer], x: Tensor) -> list[Call]:
        """See ``Engine``."""
        return [self._layer(layer, x) for layer in formats]

    def _layer(self, layer: PackedLayer, x: Tensor) -> Call:
        if self.whole:
            try:
                program = compile(PackedModel(layer, Record({})), x)
            except UnsupportedError:  # in this format alone: then PyTorch calls the layers of such networks
                pass
            else:
                return lambda: program(x)
        layer.prepare()
        return lambda: layer(x)

    def network(self, packed: PackedModel, example: Tensor) -> Call:
        """See ``Engine``."""
        run = engine_for(packed, example).run
        return lambda: run(example)


EQNET = Timed("eqnet", OwnEngine.opened, ("eqnet", "torch"), isa=_kernels.isa)
