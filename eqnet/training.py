"""Training a supernet: the sandwich step, its schedule, checkpoints and exact resume."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from eqnet.checkpoint import Checkpoint, Log, restore_optimizer
from eqnet.data import Shuffled, batches, length
from eqnet.errors import EqnetError
from eqnet.interrupts import deferred
from eqnet.losses import guided, weight_distribution
from eqnet.randomness import seeded
from eqnet.supernet import Supernet
from eqnet.tasks.task import Task

Sandwich = Sequence[tuple[str, float]]

SANDWICH: Sandwich = (("highest", 1.0), ("any", 1.0), ("lowest", 0.3))
"""The subnets of a step, each guided by the one before, as ``ElasticSpace.draw`` names them, and how much the loss of
each counts. The lowest bits have by far the largest gradients: counted in full, they cost the others accuracy."""


@dataclass(frozen=True)
class Options:
    """How a supernet is trained; the defaults are those of the README's figures.

    Attributes:
        epochs: passes over the training data; 0 trains nothing.
        batch_size: samples a step, over all processes.
        learning_rate: peak rate of the model's own parameters.
        quantizer_rate: peak rate of the logarithms of the scales, that is, of their relative change; zero points
            move ten times as far, in codes.
        sandwich: the subnets of a step, in order, each with the weight of its loss.
        wdr: weight of the weight-distribution loss; 0 leaves it out.
        guidance: share of the guide in each subnet's loss (GPG); 0 leaves it out.
        clip: largest norm of the gradient of the model's own parameters.
        warmup: share of the steps over which the rate rises, before its cosine descent.
        seed: chooses batches and subnets.
        checkpoint_every: seconds between checkpoints.
    """

    epochs: int = 2
    batch_size: int = 128
    learning_rate: float = 1e-3
    quantizer_rate: float = 1e-3
    sandwich: Sandwich = SANDWICH
    wdr: float = 1.0
    guidance: float = 0.5
    clip: float = 5.0
    warmup: float = 0.05
    seed: int = 0
    checkpoint_every: float = 30.0

    def identity(self) -> dict[str, Any]:
        """What decides the trained weights, as JSON values; a checkpoint made with others cannot be resumed."""
        values = asdict(self) | {"sandwich": [list(part) for part in self.sandwich]}
        del values["checkpoint_every"]
        return values


ZERO_POINT_RATE = 10.0
"""Zero points, in codes, move this much faster than the logarithm of a scale."""


@dataclass(frozen=True)
class Progress:
    """What one step reports.

    Attributes:
        step: steps done, of ``total``.
        losses: by name: ``wdr``, and the loss of each subnet of the sandwich.
    """

    step: int
    total: int
    losses: Mapping[str, float]


def sandwich_step(
    supernet: Supernet,
    inputs: Tensor,
    targets: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    rng: np.random.Generator,
    *,
    sandwich: Sandwich = SANDWICH,
    wdr: float = 1.0,
    guidance: float = 0.5,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Tensor]:
    """Accumulates the gradients of one step (EQ-Net, arXiv 2308.07650, sec. 3.2–3.3).

    The weight-distribution loss; then a subnet of the highest bits on the labels; then one drawn from the whole
    space, guided by the first; then one of the lowest bits, guided by the second. All three draw their granularity
    and symmetry.

    Args:
        supernet: calibrated, in training mode.
        inputs: a batch for the model.
        targets: what ``loss`` compares the outputs with.
        loss: (outputs, targets) → scalar.
        rng: draws the subnets.
        sandwich: the subnets, in order, each with the weight of its loss.
        wdr: weight of the weight-distribution loss.
        guidance: share of the guide in a guided subnet's loss.
        autocast: context for the forward passes, for training in bf16.

    Returns:
        The losses by name, detached scalars without the weights of the sandwich.
    """
    losses: dict[str, Tensor] = {}
    if wdr:
        first = supernet.space.layers[0].name
        weights = [layer.weight for name, layer in supernet.elastic.items() if name != first]
        regularization = wdr * weight_distribution(weights)
        if regularization.requires_grad:
            regularization.backward()  # type: ignore[no-untyped-call]
        losses["wdr"] = regularization.detach()
    guide: Tensor | None = None
    for bits, weight in sandwich:
        supernet.activate(supernet.space.draw(rng, bits))
        with autocast():
            outputs = supernet(inputs)
            value = loss(outputs, targets)
        if guide is not None and guidance:
            value = guided(value, outputs, guide, guidance)
        (weight * value).backward()  # type: ignore[no-untyped-call]
        guide = outputs.detach()
        losses[bits] = value.detach()
    return losses


def train(
    supernet: Supernet,
    task: Task,
    options: Options,
    folder: Path | None = None,
    accelerator: Any = None,
) -> Iterator[Progress]:
    """Trains ``supernet`` in place, yielding after each step; resumes from ``folder`` if it holds a checkpoint.

    Killed at any moment and called again with the same arguments, it ends with the weights that an uninterrupted
    run has. The caller's random state is untouched. With several processes each takes its share of every batch,
    and gradients are averaged once a step.

    Args:
        supernet: calibrated.
        task: gives the training data and the loss.
        options: see there.
        folder: where checkpoints and ``training.jsonl`` go; none if None.
        accelerator: a Hugging Face ``accelerate.Accelerator``, which knows devices, processes and precision; one
            process on the supernet's own device if None.

    Raises:
        EqnetError: a loss became inf or NaN.
        RunError: the checkpoint is of another run, or cannot be written.
    """
    plan = Shuffled(length(task.train), options.batch_size, options.seed)
    total = options.epochs * plan.steps_per_epoch
    processes, rank = (accelerator.num_processes, accelerator.process_index) if accelerator else (1, 0)
    device = accelerator.device if accelerator else next(supernet.parameters()).device
    supernet.to(device)
    keep = folder is not None and rank == 0
    checkpoint = Checkpoint(folder / "checkpoint.safetensors", options.identity()) if folder is not None else None
    first, state = checkpoint.restore(supernet) if checkpoint is not None else (0, {})
    if first == total:
        return  # and nothing of torch.optim is loaded
    optimizer = make_optimizer(supernet, options)
    restore_optimizer(optimizer, state)
    log = Log(folder / "training.jsonl", first) if folder is not None and keep else None
    saved, done = time.monotonic(), first
    own = [indices[rank::processes] for indices in plan.steps(first, total)]
    supernet.train()
    try:
        data = batches(task.train, own, device, seed=options.seed, first=first, workers=task.workers)
        for step, (inputs, targets) in enumerate(data, start=first):
            with deferred():  # Ctrl-C ends the training between two steps
                _set_rates(optimizer, _schedule(step / total, options.warmup))
                rng = np.random.default_rng([options.seed, step])
                optimizer.zero_grad(set_to_none=True)
                with seeded(options.seed, step, rank):  # dropout and the like
                    losses = sandwich_step(
                        supernet,
                        inputs,
                        targets,
                        task.loss,
                        rng,
                        sandwich=options.sandwich,
                        wdr=options.wdr,
                        guidance=options.guidance,
                        autocast=accelerator.autocast if accelerator else nullcontext,
                    )
                if processes > 1:
                    _average_gradients(optimizer, accelerator)
                torch.nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], options.clip)
                optimizer.step()
                values = {name: value.item() for name, value in losses.items()}
                for name, value in values.items():
                    if not math.isfinite(value):
                        raise EqnetError(
                            f"step {step + 1}: the loss '{name}' is {value}; lower the learning rate "
                            f"({options.learning_rate:g}) or check the training data"
                        )
                if log is not None:
                    log.add({"step": step + 1, "epoch": (step + 1) / plan.steps_per_epoch, **values})
                done = step + 1
                due = time.monotonic() - saved > options.checkpoint_every
                if checkpoint is not None and keep and (due or step + 1 == total):
                    checkpoint.save(supernet, optimizer, step + 1)
                    saved = time.monotonic()
            yield Progress(step + 1, total, values)
    except (KeyboardInterrupt, GeneratorExit):  # between two steps: nothing that was learnt is lost
        if checkpoint is not None and keep:
            checkpoint.save(supernet, optimizer, done)
        raise
    finally:
        supernet.activate(None)
        if log is not None:
            log.close()


def make_optimizer(supernet: Supernet, options: Options) -> torch.optim.Optimizer:
    quantizers = {
        id(parameter)
        for layer in supernet.elastic.values()
        for quantizer in (layer.weight_quantizer, layer.input_quantizer)
        if quantizer is not None
        for parameter in quantizer.parameters()
    }
    weights: list[nn.Parameter] = []
    scales: list[nn.Parameter] = []
    zero_points: list[nn.Parameter] = []
    for name, parameter in supernet.named_parameters():
        if id(parameter) not in quantizers:
            weights.append(parameter)
        else:
            (zero_points if ".zero_point." in name else scales).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": weights, "peak": options.learning_rate},
        {"params": scales, "peak": options.quantizer_rate},
        {"params": zero_points, "peak": options.quantizer_rate * ZERO_POINT_RATE},
    ]
    groups = [group for group in groups if group["params"]]
    # A parameter whose format was not drawn has no gradient, and Adam leaves it and its moments alone.
    return torch.optim.Adam(groups, lr=options.learning_rate, fused=_has_fused_adam(weights))


def _has_fused_adam(parameters: list[nn.Parameter]) -> bool:
    return all(p.device.type in ("cpu", "cuda", "mps") and p.is_floating_point() for p in parameters)


def _schedule(done: float, warmup: float) -> float:
    """Share of the peak rate after ``done`` of all steps: a linear rise, then half a cosine."""
    return min(1.0, (done + 1e-3) / warmup if warmup else 1.0) * 0.5 * (1 + math.cos(math.pi * done))


def _set_rates(optimizer: torch.optim.Optimizer, share: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share


def _average_gradients(optimizer: torch.optim.Optimizer, accelerator: Any) -> None:
    """One all-reduce of every gradient of the step: all processes draw the same subnets, so have the same ones."""
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    flat = accelerator.reduce(torch.cat([g.flatten() for g in gradients]), reduction="mean")
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))
