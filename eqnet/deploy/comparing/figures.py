"""How far the results of two networks are from each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Figures:
    """Of the results b beside the results a, over all samples.

    Attributes:
        largest: max |a − b|.
        relative: ‖a − b‖ / ‖a‖.
        cosine: of the angle between a and b.
    """

    largest: float
    relative: float
    cosine: float


class Sums:
    """Adds up batches of results."""

    def __init__(self) -> None:
        self._largest = 0.0
        self._squares = torch.zeros(4, dtype=torch.float64)  # of a, b and a − b, and of the products a·b

    def add(self, a: Tensor, b: Tensor) -> None:
        """Adds a batch: two tensors of one shape."""
        if not a.numel():
            return
        a, b = a.double(), b.double()
        difference = a - b
        self._largest = max(self._largest, difference.abs().nan_to_num(nan=torch.inf, posinf=torch.inf).max().item())
        self._squares += torch.stack([(a * a).sum(), (b * b).sum(), (difference * difference).sum(), (a * b).sum()])

    @property
    def figures(self) -> Figures:
        """Of all batches so far; those of zeros beside zeros say that they are equal."""
        a, b, difference, product = self._squares.tolist()
        return Figures(
            largest=self._largest,
            relative=(difference / a) ** 0.5 if a else float(difference > 0),
            cosine=product / (a * b) ** 0.5 if a * b else float(a == b),
        )
