"""An artifact beside the same network in floating point, where that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from eqnet.bench.timing import Times, in_turn
from eqnet.deploy.batching import fixed_batch
from eqnet.deploy.opening import Deployed
from eqnet.errors import InputError
from eqnet.packed.dequantizing import dequantized
from eqnet.runtime.runner import Runner
from eqnet.threads import threads

Report = Callable[[str, int, int], None]

FORMS: Mapping[str, str] = {"eqnet": "packed", "onnx": "ONNX", "tvm": "TVM"}
"""What the forms of artifacts are called in tables."""

EXACT = "ONNX, exact"
"""An ONNX file in a session that answers exactly, which people who load it by themselves do not ask for."""


@dataclass(frozen=True)
class Speed:
    """How fast one form of a network is.

    Attributes:
        form: one of ``FORMS``, ``EXACT``, or ``fp32``.
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
    taken = opened.taken
    if taken is None or taken.shape is None:
        raise InputError(f"{opened.path}: does not say what inputs it takes; give one with --input X.npy")
    if not taken.dtype.is_floating_point:
        return torch.zeros(1, *taken.shape, dtype=taken.dtype)
    return torch.randn(1, *taken.shape, generator=torch.Generator().manual_seed(0)).to(taken.dtype)


def repeated(x: Tensor, count: int) -> Tensor:
    """``count`` inputs: those of ``x``, from the first again as often as need be."""
    return x.repeat(-(-count // len(x)), *[1] * (x.ndim - 1))[:count].clone()


def compare(
    opened: Deployed,
    at: Callable[[int], Mapping[str, Runner]],
    x: Tensor,
    batches: Sequence[int],
    thread_counts: Sequence[int],
    seconds: float,
    report: Report | None = None,
) -> list[Speed]:
    """Times an artifact, and where it is a folder the same network in fp32 in turn, by number of threads and batch.

    The fp32 network is PyTorch's on the dequantized weights, with batch norm folded as in the packed one, and in
    channels-last order if its inputs are images.

    Args:
        opened: what to time.
        at: the same, opened to use so many threads, by its form.
        x: inputs; repeated to fill a batch.
        batches: inputs in one call.
        thread_counts: threads to use.
        seconds: for all of it.
        report: told (stage, done, total).

    Raises:
        InputError: the artifact takes other batches only.
    """
    fixed = fixed_batch(opened.runner)
    if fixed is not None and set(batches) != {fixed}:
        raise InputError(f"{opened.path}: takes batches of {fixed} only; give --batch {fixed}")
    floating = _floating(opened, x)
    cells = [(count, batch) for count in thread_counts for batch in batches]
    speeds = []
    for done, (count, batch) in enumerate(cells):
        if report is not None:
            report("Timing", done, len(cells))
        inputs = repeated(x, batch)
        calls: dict[str, Callable[[], Tensor]] = {form: partial(runner, inputs) for form, runner in at(count).items()}
        if floating is not None:
            ordered = inputs.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else inputs
            calls["fp32"] = partial(floating, ordered)
        with threads(count), torch.inference_mode():
            taken = in_turn([*calls.values()], seconds / len(cells))
        speeds += [Speed(form, count, batch, times) for form, times in zip(calls, taken, strict=True)]
    if report is not None:
        report("Timing", len(cells), len(cells))
    return speeds


def _floating(opened: Deployed, x: Tensor) -> nn.Module | None:
    """The network in fp32; None where only what was compiled from it is there."""
    if opened.packed is None:
        return None
    floating = dequantized(opened.packed)
    if x.ndim == 4:
        floating = floating.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return floating
