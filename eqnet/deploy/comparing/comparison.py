"""Two networks on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eqnet.deploy.batching import fixed_batch, in_pieces, pieces
from eqnet.deploy.comparing.figures import Figures, Sums
from eqnet.deploy.comparing.layers import LayerFigures, LayerSums, layer_record
from eqnet.errors import InputError
from eqnet.runtime.runner import Runner

LAYER_SAMPLES = 64
"""Inputs that layers are compared on: with them, single codes at a tie are a small share of a channel."""

LAYER_BATCH = 8
"""Of them, in one call: the results of all layers are held at once."""

Report = Callable[[str, int, int], None]
Metric = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Comparison:
    """What B is beside A.

    Attributes:
        samples: that outputs were compared on.
        outputs: of what the networks return.
        agreement: share of samples, or of positions in them, whose largest output is the same; None if outputs are no
            vectors.
        accuracy: of A and of B; None without labels.
        layer_samples: that layers were compared on.
        layers: those that both let one see, in the order in which A runs them.
    """

    samples: int
    outputs: Figures
    agreement: float | None
    accuracy: tuple[float, float] | None
    layer_samples: int
    layers: tuple[LayerFigures, ...]

    @property
    def first(self) -> LayerFigures | None:
        """The first layer that departs."""
        return next((layer for layer in self.layers if layer.departs), None)


def compare(
    a: Runner,
    b: Runner,
    batches: Iterable[tuple[Tensor, Tensor | None]],
    metric: Metric | None = None,
    *,
    total: int = 0,
    report: Report | None = None,
) -> Comparison:
    """Runs both on the same inputs.

    Args:
        a: what is right.
        b: what is compared with it.
        batches: of inputs [N, ...], and labels if there are any.
        metric: of outputs and labels: a score for each sample.
        total: samples in all batches, for ``report``.
        report: told (stage, done, total).

    Raises:
        InputError: they take or return different things, or there is no input.
    """
    check_pair(a, b)
    sums, count = Sums(), 0
    agreeing: list[Tensor] = []
    scores: list[Tensor] = []
    kept: list[Tensor] = []
    for x, targets in batches:
        ya, yb = in_pieces(a, x), in_pieces(b, x)
        if ya.shape != yb.shape:
            raise InputError(
                f"{a.path} returns outputs of shape {[*ya.shape]}, {b.path} of {[*yb.shape]}; compare two forms of one "
                "network"
            )
        sums.add(ya, yb)
        if ya.ndim > 1 and ya.shape[-1] > 1:
            agreeing.append((ya.argmax(-1) == yb.argmax(-1)).double().flatten())
        if metric is not None and targets is not None:
            scores.append(torch.stack([metric(y, targets).double().cpu() for y in (ya.float(), yb.float())]))
        kept += [x[: max(LAYER_SAMPLES - sum(map(len, kept)), 0)]]
        count += len(x)
        if report is not None:
            report("Comparing outputs", count, total)
    if not count:
        raise InputError("there is no input to compare on; give at least one")
    seen = torch.cat(kept)
    layers = _layers(a, b, seen, report)
    accuracy = torch.cat(scores, 1).mean(1).tolist() if scores else None
    return Comparison(
        samples=count,
        outputs=sums.figures,
        agreement=torch.cat(agreeing).mean().item() if agreeing else None,
        accuracy=(accuracy[0], accuracy[1]) if accuracy is not None else None,
        layer_samples=len(seen) if layers else 0,
        layers=layers,
    )


def check_pair(a: Runner, b: Runner) -> None:
    """Raises InputError if both say what they take, and it is not the same."""
    if not a.inputs or not b.inputs:
        return
    same = len(a.inputs) == len(b.inputs) and all(
        p.dtype == q.dtype
        and len(p.shape) == len(q.shape)
        and all(None in sizes or sizes[0] == sizes[1] for sizes in zip(p.shape[1:], q.shape[1:]))
        for p, q in zip(a.inputs, b.inputs)
    )
    if not same:
        raise InputError(
            f"{a.path} takes {'; '.join(map(str, a.inputs))}, {b.path} takes {'; '.join(map(str, b.inputs))}; compare "
            "two forms of one network"
        )
    if len(a.inputs) > 1:
        raise InputError(f"{a.path}: takes {len(a.inputs)} inputs; only networks of one can be compared")


def _layers(a: Runner, b: Runner, x: Tensor, report: Report | None) -> tuple[LayerFigures, ...]:
    sums: dict[str, LayerSums] = {}
    order: list[str] = []
    approximate = a.approximate() | b.approximate()
    for done, batch in enumerate(_pieces(x, a, b)):
        of_a = a.layers(batch)
        for name in of_a:
            sums.setdefault(name, LayerSums(name, layer_record(name, a.record, b.record), name in approximate))
        of_b = b.layers(batch, given=of_a)
        order = [*max((of_a, of_b), key=len)]
        for name in (name for name in of_a if name in of_b):
            if of_a[name].shape != of_b[name].shape:
                raise InputError(
                    f"layer '{name}' returns results of shape {[*of_a[name].shape]} in {a.path}, of "
                    f"{[*of_b[name].shape]} in {b.path}; compare two forms of one network"
                )
            sums[name].add(of_a[name], of_b[name])
        if report is not None:
            report("Comparing layers", min((done + 1) * len(batch), len(x)), len(x))
        if not of_a or not of_b:
            break
    return tuple(_with_unseen(order, {name: known.figures for name, known in sums.items() if known.count}))


def _with_unseen(order: Sequence[str], seen: Mapping[str, LayerFigures]) -> Iterator[LayerFigures]:
    """The layers that both show, in this order, each with those since the one before it that only one shows."""
    between: list[str] = []
    for name in order:
        if name in seen:
            yield replace(seen[name], unseen=tuple(between))
            between = []
        else:
            between.append(name)


def _pieces(x: Tensor, a: Runner, b: Runner) -> Iterator[Tensor]:
    """Batches that both take; what is left over by batches of a fixed size is left out, or filled up if it is all."""
    fixed = {size for runner in (a, b) if (size := fixed_batch(runner)) is not None}
    if len(fixed) > 1:
        return
    size = next(iter(fixed), LAYER_BATCH)
    if fixed and len(x) < size:
        yield torch.cat([x, *[x[-1:]] * (size - len(x))])
        return
    yield from (piece for piece in pieces(x, size) if len(piece) == size or not fixed)
