"""What a model answers to the inputs of a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eqnet.deploy.batching import in_pieces
from eqnet.deploy.inputs import Inputs, read_inputs
from eqnet.deploy.opening import Deployed
from eqnet.errors import InputError
from eqnet.tasks.task import Normalization

BATCH = 64
"""Inputs in one call."""


@dataclass(frozen=True)
class Answer:
    """What a model returned.

    Attributes:
        y: float32 [N, ...].
        inputs: what it was given.
        engine: what ran it, for people.
    """

    y: Tensor
    inputs: Inputs
    engine: str

    def top(self, count: int, samples: int) -> list[list[tuple[int, float]]]:
        """For each of the first ``samples``, the most probable classes and their probabilities by softmax.

        Empty if the model returns no vectors.
        """
        if self.y.ndim != 2 or self.y.shape[1] < 2:
            return []
        shares, classes = self.y[:samples].softmax(1).topk(min(count, self.y.shape[1]))
        pairs = zip(classes.tolist(), shares.tolist(), strict=True)
        return [list(zip(*pair, strict=True)) for pair in pairs]


def answer(
    opened: Deployed,
    path: Path,
    normalization: Normalization | None = None,
    report: Callable[[str, int, int], None] | None = None,
) -> Answer:
    """Runs an artifact on the inputs in ``path``; see ``read_inputs``.

    Raises:
        InputError: the file is not what the model takes.
    """
    inputs = read_inputs(path, opened.taken, normalization)
    x, origin = inputs.x, opened.origin
    if not len(x):
        raise InputError(f"{path}: is of shape {[*x.shape]}; give at least one input")
    results = []
    try:
        for first in range(0, len(x), BATCH):
            results.append(in_pieces(opened.runner, x[first : first + BATCH]).float())
            if report is not None:
                report("Running", min(first + BATCH, len(x)), len(x))
    except InputError as e:
        expected = (
            f"; its task's inputs are [{', '.join(map(str, ('N', *origin.shape)))}]" if origin is not None else ""
        )
        raise InputError(f"{path}: {e}{expected}") from e
    return Answer(torch.cat(results), inputs, str(opened.runner))
