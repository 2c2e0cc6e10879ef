"""The losses of EQ-Net (arXiv 2308.07650, sec. 3.2): weight distribution regularization and guidance."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

KURTOSIS_TARGET = 1.8
"""Kurtosis of the uniform distribution, the one that rounding hurts least."""

ROUNDING = 1e-6
"""Values that differ by less than this share of the largest are constant but for float32's rounding."""


def weight_distribution(weights: Iterable[Tensor], *, kurtosis: float = 0.015, skewness: float = 1.0) -> Tensor:
    """WDR: how far the weights of the layers are from a symmetric, flat distribution.

    ``(1/L) Σ (skewness · |Skew(w)|² + kurtosis · |Kurt(w) − 1.8|²)`` over the L layers, with the third and fourth
    standardized moments (eq. 6; the two factors are those of the paper's public code).

    Args:
        weights: one tensor a layer, any shape; constant tensors contribute nothing.
        kurtosis: factor of the kurtosis term.
        skewness: factor of the skewness term.

    Returns:
        A scalar; 0 if there are no weights.
    """
    terms = []
    for weight in weights:
        centred = weight.float() - weight.float().mean()
        size = centred.detach().abs().amax()
        if size <= ROUNDING * weight.detach().abs().amax():
            continue
        centred = centred / size  # moments are the same at any scale, and now neither underflow nor overflow
        square = centred * centred
        variance = square.mean()
        skew = (square * centred).mean() / variance**1.5
        kurt = (square * square).mean() / variance**2
        terms.append(skewness * skew**2 + kurtosis * (kurt - KURTOSIS_TARGET) ** 2)
    return torch.stack(terms).mean() if terms else torch.zeros(())


def divergence(outputs: Tensor, reference: Tensor) -> Tensor:
    """Kullback–Leibler divergence of the reference's distribution from that of the outputs, in nats.

    ``KL(softmax(reference) ‖ softmax(outputs))``, the mean over all but the last dimension.

    Args:
        outputs: logits [..., classes].
        reference: likewise.
    """
    return F.kl_div(
        F.log_softmax(outputs.flatten(0, -2).float(), -1),
        F.log_softmax(reference.flatten(0, -2).float(), -1),
        reduction="batchmean",
        log_target=True,
    )


def guided(task_loss: Tensor, outputs: Tensor, guide: Tensor, share: float = 0.5) -> Tensor:
    """GPG: ``share · KL(guide ‖ outputs) + (1 − share) · task loss`` (eq. 7–8, temperature 1).

    Args:
        task_loss: of ``outputs``, a scalar.
        outputs: logits of the subnet that learns, [..., classes].
        guide: logits of the subnet that it learns from, taken as constant.
        share: λ, between 0 (labels alone) and 1 (guide alone).
    """
    return share * divergence(outputs, guide.detach()) + (1 - share) * task_loss
