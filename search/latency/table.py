"""Times of layers, added up to those of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from eqnet.errors import InputError
from eqnet.formats import LayerFormat
from eqnet.search.latency.engine import Kernels
from eqnet.search.latency.timing import Timing
from eqnet.space import Layer

LayerTimes = Mapping[str, Mapping[LayerFormat, int]]
"""By layer and by the format that stands for others, nanoseconds alone."""


@dataclass(frozen=True)
class LatencyTable:
    """Predicts the latency of a network: that of the fastest one, and what each layer adds to it.

    Attributes:
        fastest: nanoseconds of the fastest network of the space, measured; what no layer accounts for is part of it.
        stands: the formats that stand for those of that network, by layer.
        added: by layer and by the format that stands for others, nanoseconds beyond the layer of that network.
        kernels: tell which formats stand for which.
    """

    fastest: int
    stands: Mapping[str, LayerFormat]
    added: LayerTimes
    kernels: Kernels

    @classmethod
    def fitted(
        cls,
        layers: LayerTimes,
        ends: tuple[Mapping[str, LayerFormat], Mapping[str, LayerFormat]],
        measured: tuple[Timing, Timing],
        kernels: Kernels,
    ) -> LatencyTable:
        """The table that is right about the fastest and about the slowest network.

        A layer alone finds its weights in the cache and pays for a call of its own, so that differences between formats
        may count for more or less within a network. All are scaled alike, by what makes the slowest network right; if
        that one is right within its noise, they are left as they are.

        Args:
            layers: times of layers alone.
            ends: the formats that stand for those of the fastest and of the slowest network, by layer.
            measured: their times.
            kernels: see the attribute.
        """
        fast, slow = ends
        alone = sum(layers[name][slow[name]] - layers[name][fast[name]] for name in layers)
        together = measured[1].median - measured[0].median
        noise = max(timing.noise for timing in measured)
        above, below = (max(together, 0), alone) if abs(together - alone) > noise and alone > 0 else (1, 1)
        added = {
            name: {fmt: (time - times[fast[name]]) * above // below for fmt, time in times.items()}
            for name, times in layers.items()
        }
        return cls(measured[0].median, fast, added, kernels)

    def nanoseconds(self, layer: Layer, fmt: LayerFormat) -> int:
        """What ``layer`` adds in format ``fmt``.

        Raises:
            InputError: the layer was not measured in it.
        """
        stand = self.kernels.stand_in(layer, fmt)
        try:
            return self.added[layer.name][stand]
        except KeyError as e:
            raise InputError(f"layer '{layer.name}' was not timed in {fmt}, which is outside the elastic space") from e

    def total(self, subnet: Mapping[str, LayerFormat], layers: Sequence[Layer]) -> int | None:
        """Nanoseconds of a network; None if a layer was not measured in its format, which the target does not run."""
        stands = {layer.name: self.kernels.stand_in(layer, subnet[layer.name]) for layer in layers}
        times = [self.added[name].get(stand) for name, stand in stands.items()]
        known = [time for time in times if time is not None]
        return self.fastest + sum(known) if len(known) == len(times) else None

    def corrected(self, subnet: Mapping[str, LayerFormat], layers: Sequence[Layer], measured: int) -> LatencyTable:
        """The table by which ``subnet`` takes at least ``measured`` nanoseconds.

        What is missing is shared among the layers that run other kernels than in the fastest network, whose time stays.
        """
        found = {layer.name: self.kernels.stand_in(layer, subnet[layer.name]) for layer in layers}
        slower = {name: stand for name, stand in found.items() if stand != self.stands[name]}
        missing = measured - self.fastest - sum(self.added[name][stand] for name, stand in found.items())
        if missing <= 0 or not slower:
            return self
        share = -(-missing // len(slower))
        raised = {name: {stand: self.added[name][stand] + share} for name, stand in slower.items()}
        return replace(self, added={name: {**times, **raised.get(name, {})} for name, times in self.added.items()})

    def at_most_fastest(self, nanoseconds: int) -> LatencyTable:
        """The table by which every network beyond the kernels of the fastest one takes more than ``nanoseconds``."""
        added = {
            name: {stand: 0 if stand == self.stands[name] else max(time, nanoseconds) for stand, time in times.items()}
            for name, times in self.added.items()
        }
        return replace(self, added=added)
