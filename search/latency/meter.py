"""Times layers alone, and whole networks as they are deployed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eqnet.bench.timing import Call, in_turn
from eqnet.formats import LayerFormat
from eqnet.layers import Elastic
from eqnet.packed.layers import PACKED
from eqnet.packed.model import PackedModel
from eqnet.packed.packing import pack
from eqnet.search.latency.engine import Kernels, Timed
from eqnet.search.latency.eqnet import EQNET
from eqnet.search.latency.kernels import packed_layer, packed_network
from eqnet.search.latency.table import LatencyTable, LayerTimes
from eqnet.search.latency.timing import Timing, Timings
from eqnet.space import ElasticSpace, Layer, TiedSet
from eqnet.supernet import Supernet
from eqnet.target import Target
from eqnet.threads import threads

KERNEL_SECONDS = 0.05
"""For which one layer in one format is timed."""

LAYERS_SECONDS = 5.0
"""For all layers together, where there are too many for that."""

NETWORK_SECONDS = 0.15
"""For which one network is timed, each time."""

ROUNDS = 3
"""Times that a network is timed; the round with the least median counts, as other processes only ever add to it."""

BLOCK = 0.002
"""Seconds for which a call is repeated before it is the next one's turn."""

Report = Callable[[str, int, int], None]
Formats = Mapping[str, LayerFormat]


class LatencyMeter:
    """What the networks of one supernet take for one input, on this machine, with one engine.

    Nothing is timed twice: what ``path`` holds of this machine, this number of threads and these versions is used
    again.

    Args:
        supernet: calibrated or not; it is left as it was.
        example: a batch of its inputs, of which the first is taken.
        path: file of the timings; None keeps them in memory.
        count: threads of the engine; PyTorch's number if None.
        report: told (stage, done, total).
        timed: what runs the networks.
        target: formats that it does not run are not timed.

    Raises:
        RunError: the file is damaged or cannot be written.
        MissingPackageError: the engine is not installed.
        InputError: the supernet does not run on the example, or returns something else than one tensor; or the target
            runs nothing of some layer.

    Attributes:
        machine: what the times are of.
        engine: that is timed.
        table: predicts latencies.
    """

    def __init__(
        self,
        supernet: Supernet,
        example: Tensor,
        path: Path | None = None,
        count: int | None = None,
        report: Report | None = None,
        *,
        timed: Timed = EQNET,
        target: Target | None = None,
    ) -> None:
        self._threads = count or torch.get_num_threads()
        self._example = example[:1].cpu()
        self._timings = Timings(path)
        self._report: Report = report or (lambda *_: None)
        self.machine = timed.machine(self._threads)
        space = supernet.space.restrict(target.why_not) if target is not None else supernet.space
        some = packed_network(supernet, space.subnet([0] * len(space.sets)))
        self.engine = timed.opened(some, self._example, space, self._threads)
        inputs = _layer_inputs(some, self._example)
        self._layers = self._timed_layers(supernet, space, inputs)
        self._ends = [_extreme(space, self._layers, self.engine, pick) for pick in (min, max)]
        nonnegative = [name for name, calls in inputs.items() if all(map(_nonnegative, calls))]
        self.table = self._fitted(supernet, partial(packed_network, nonnegative=nonnegative))

    def settle(self, supernet: Supernet) -> None:
        """Makes predictions right about networks as they are deployed, now that the supernet is what it will be.

        Until then they are about networks of random codes, which is the same for engines for which values play no part.

        Args:
            supernet: that of the meter, calibrated.
        """
        if self.engine.values:
            self.table = self._fitted(supernet, pack)

    def network(self, supernet: Supernet, subnet: Formats) -> Timing:
        """The time of a network as it is deployed.

        Networks whose layers run the same kernels are one: they are timed once.

        Args:
            supernet: that of the meter, calibrated.
            subnet: one of its.
        """
        return self._networks(supernet, [subnet], pack)[0]

    def _fitted(self, supernet: Supernet, make: Callable[..., PackedModel]) -> LatencyTable:
        """The table that is right about the fastest and the slowest network, as ``make`` makes them."""
        fast, slow = self._networks(supernet, self._ends, make)
        stands = [_stand_ins(supernet.space, subnet, self.engine) for subnet in self._ends]
        return LatencyTable.fitted(self._layers, (stands[0], stands[1]), (fast, slow), self.engine)

    def _timed_layers(
        self, supernet: Supernet, space: ElasticSpace, inputs: Mapping[str, Sequence[Tensor]]
    ) -> LayerTimes:
        """By layer and by the format that stands for others, nanoseconds alone."""
        stand_in = self.engine.stand_in
        formats = {
            layer.name: list(dict.fromkeys(stand_in(layer, space.member_format(layer, c)) for c in tied.choices))
            for tied in space.sets
            for layer in tied.layers
        }
        share = min(KERNEL_SECONDS, LAYERS_SECONDS / sum(map(len, formats.values())))
        layers = {}
        for done, layer in enumerate(space.layers):
            self._report("Timing layers", done, len(space.layers))
            elastic, calls = supernet.elastic[layer.name], inputs.get(layer.name, [])
            timed = self._layer(elastic, layer, formats[layer.name], calls, share, space.scale_bits)
            layers[layer.name] = dict(zip(formats[layer.name], timed, strict=True))
        self._report("Timing layers", len(space.layers), len(space.layers))
        return layers

    def _layer(
        self,
        elastic: Elastic,
        layer: Layer,
        formats: Sequence[LayerFormat],
        inputs: Sequence[Tensor],
        seconds: float,
        scale_bits: int,
    ) -> list[int]:
        """Nanoseconds of all calls of a layer, for each format."""
        totals = [0] * len(formats)
        for x in inputs:
            kind: Any = PACKED[type(elastic)].kind
            what = f"{layer.kind}({kind.extra_repr(elastic)}) of {[*x.shape]}"
            nonnegative = _nonnegative(x)
            if nonnegative and self.engine.values:
                what += " that are not negative"
            keys = [f"{self.machine}: {what} in {fmt}, fp{scale_bits} scales, {self.engine}" for fmt in formats]
            if any(self._timings.get(key) is None for key in keys):
                made = [packed_layer(elastic, layer, fmt, scale_bits, nonnegative) for fmt in formats]
                calls = self.engine.layers(made, x)
                with threads(self._threads), torch.inference_mode():
                    timed = in_turn(calls, seconds * len(calls), BLOCK)
                self._timings.add({key: Timing.of(times) for key, times in zip(keys, timed, strict=True)})
            totals = [total + self._known(key).median for total, key in zip(totals, keys, strict=True)]
        return totals

    def _networks(
        self, supernet: Supernet, subnets: Sequence[Formats], make: Callable[..., PackedModel]
    ) -> list[Timing]:
        made = "" if make is pack or not self.engine.values else ", of random codes"
        keys = [self._key(supernet, _stand_ins(supernet.space, subnet, self.engine)) + made for subnet in subnets]
        missing = {key: subnet for key, subnet in zip(keys, subnets) if self._timings.get(key) is None}
        if missing:
            networks = [make(supernet, subnet).to("cpu") for subnet in missing.values()]
            calls: list[Call] = [self.engine.network(packed, self._example) for packed in networks]
            rounds = []
            for done in range(ROUNDS):
                self._report("Timing networks", done, ROUNDS)
                with threads(self._threads):
                    rounds.append([Timing.of(t) for t in in_turn(calls, NETWORK_SECONDS * len(calls), BLOCK)])
            self._report("Timing networks", ROUNDS, ROUNDS)
            best = [min(taken, key=lambda timing: timing.median) for taken in zip(*rounds, strict=True)]
            self._timings.add(dict(zip(missing, best, strict=True)))
        return [self._known(key) for key in keys]

    def _key(self, supernet: Supernet, stands: Formats) -> str:
        formats = ", ".join(f"{name} {fmt}" for name, fmt in stands.items())
        content = f"{supernet.space.fingerprint()} {formats}"
        digest = hashlib.sha256(content.encode()).hexdigest()[:16]
        return f"{self.machine}: {type(supernet.model).__name__} {digest} of {[*self._example.shape]}"

    def _known(self, key: str) -> Timing:
        timing = self._timings.get(key)
        assert timing is not None, "it was taken above"
        return timing


def _layer_inputs(packed: PackedModel, example: Tensor) -> dict[str, list[Tensor]]:
    """What each layer is given, in each of its calls."""
    seen: dict[str, list[Tensor]] = {}

    def watch(layer: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        seen.setdefault(layer.path, []).append(arguments[0] if arguments else next(iter(keywords.values())))

    hooks = [layer.register_forward_pre_hook(watch, with_kwargs=True) for layer in packed.layers.values()]
    try:
        with torch.inference_mode():
            packed(example)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _nonnegative(x: Tensor) -> bool:
    return bool((x >= 0).all())


def _stand_ins(space: ElasticSpace, subnet: Formats, kernels: Kernels) -> dict[str, LayerFormat]:
    return {layer.name: kernels.stand_in(layer, subnet[layer.name]) for layer in space.layers}


def _extreme(
    space: ElasticSpace,
    layers: Mapping[str, Mapping[LayerFormat, int]],
    kernels: Kernels,
    pick: Callable[..., int],
) -> Formats:
    """The subnet whose layers take the least or the most time alone."""

    def time(tied: TiedSet, gene: int) -> int:
        choice = tied.choices[gene]
        return sum(layers[one.name][kernels.stand_in(one, space.member_format(one, choice))] for one in tied.layers)

    return space.subnet([pick(range(len(tied.choices)), key=lambda g: time(tied, g)) for tied in space.sets])
