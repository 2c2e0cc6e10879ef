"""A packed network beside the same one in floating point."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from eqnet.bench.timing import Times, in_turn, threads
from eqnet.deploy.engine import Engine, engine_for
from eqnet.deploy.opening import Deployed
from eqnet.errors import InputError
from eqnet.packed.dequantizing import dequantized
from eqnet.packed.model import PackedModel

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Speed:
    """How fast one form of a network is.

    Attributes:
        form: ``packed`` or ``fp32``.
        threads: that it uses.
        batch: inputs in one call.
        times: of each call.
    """

    form: str
    threads: int
    batch: int
    times: Times

    @property
    def per_second(self) -> float:
        """Inputs in a second, over all calls."""
        return self.batch / self.times.mean


def sample(opened: Deployed) -> Tensor:
    """One input as a batch of 1: noise, for times do not depend on it; zeros if inputs are integers.

    Raises:
        InputError: the artifact does not say what it takes.
    """
    if opened.origin is None:
        raise InputError(f"{opened.folder}: does not say what inputs it takes; give one with --input X.npy")
    example = opened.origin.example()
    if not example.is_floating_point():
        return example
    return torch.randn(example.shape, generator=torch.Generator().manual_seed(0)).to(example.dtype)


def compare(
    packed: PackedModel,
    x: Tensor,
    batches: Sequence[int],
    thread_counts: Sequence[int],
    seconds: float,
    report: Report | None = None,
) -> tuple[Engine, list[Speed]]:
    """Times a packed network and the same one in fp32 in turn, for each number of threads and each batch.

    The fp32 network is PyTorch's on the dequantized weights, with batch norm folded as in the packed one, and in
    channels-last order if its inputs are images.

    Args:
        packed: on the CPU.
        x: inputs; repeated to fill a batch.
        batches: inputs in one call.
        thread_counts: threads to use.
        seconds: for all of it.
        report: told (stage, done, total).

    Returns:
        What runs the packed network, and the times.
    """
    engine = engine_for(packed, x[:1])
    floating = dequantized(packed)
    if x.ndim == 4:
        floating = floating.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    cells = [(count, batch) for count in thread_counts for batch in batches]
    speeds = []
    for done, (count, batch) in enumerate(cells):
        if report is not None:
            report("Timing", done, len(cells))
        inputs = x.repeat(-(-batch // len(x)), *[1] * (x.ndim - 1))[:batch]
        ordered = inputs.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else inputs
        with threads(count), torch.inference_mode():
            taken = in_turn([lambda: engine.run(inputs), lambda: floating(ordered)], seconds / len(cells))  # noqa: B023
        speeds += [Speed(form, count, batch, times) for form, times in zip(("packed", "fp32"), taken, strict=True)]
    if report is not None:
        report("Timing", len(cells), len(cells))
    return engine, speeds
