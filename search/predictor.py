"""CQAP: the quality of a subnet, predicted from its formats (EQ-Net, arXiv 2308.07650, sec. 3.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy import optimize, stats
from torch import Tensor
from torch.nn import functional as F
from torch.optim.adamw import adamw

from eqnet.formats import Format, LayerFormat
from eqnet.search.noise import Noise
from eqnet.space import ElasticSpace
from eqnet.threads import threads

Floats = np.ndarray[Any, np.dtype[np.float64]]
Genes = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Agreement:
    """How well predictions follow measurements that the predictor has not seen.

    Attributes:
        kendall_tau: rank correlation.
        pearson: linear correlation.
        rmse: root of the mean squared error, in the unit of the quality (logarithm of the divergence).
        held_out: number of measurements.
    """

    kendall_tau: float
    pearson: float
    rmse: float
    held_out: int

    @classmethod
    def between(cls, predicted: Floats, measured: Floats) -> Agreement:
        """Compares two arrays [N]; correlations are 0 where one of them is constant or N < 2."""
        error = float(np.sqrt(np.mean((predicted - measured) ** 2))) if len(measured) else 0.0
        if len(measured) < 2 or np.ptp(predicted) == 0 or np.ptp(measured) == 0:
            return cls(0.0, 0.0, error, len(measured))
        tau = float(stats.kendalltau(predicted, measured).statistic)
        return cls(tau, float(stats.pearsonr(predicted, measured).statistic), error, len(measured))


def one_hot(space: ElasticSpace) -> list[Floats]:
    """CQAP's input: for each tied set, one row a choice — its widths and conditions, one-hot [choices, features].

    Widths of weight and activation, then the conditions: granularity, symmetry of weight and of activation.
    """

    def parts(choice: LayerFormat) -> list[tuple[str, Any]]:
        def of(prefix: str, fmt: Format | None) -> list[tuple[str, Any]]:
            if fmt is None:
                return []
            shared = f"{fmt.granularity.value}{fmt.group_size or ''}"
            return [
                (f"{prefix} bits", fmt.bits),
                (f"{prefix} granularity", shared),
                (f"{prefix} symmetric", fmt.symmetric),
            ]

        return of("weight", choice.weight) + of("activation", choice.activation)

    tables = []
    for tied in space.sets:
        columns: dict[tuple[str, Any], int] = {}
        for choice in tied.choices:
            for part in parts(choice):
                columns.setdefault(part, len(columns))
        table = np.zeros((len(tied.choices), len(columns)))
        for row, choice in enumerate(tied.choices):
            table[row, [columns[part] for part in parts(choice)]] = 1.0
        tables.append(table)
    return tables


def gather(tables: list[Floats], genes: Genes) -> Floats:
    """The rows that the genes [N, sets] choose, side by side: [N, sum of features]."""
    return np.concatenate([table[genes[:, i]] for i, table in enumerate(tables)], axis=1)


def first_rows(tables: Sequence[Floats]) -> Genes:
    """Where each table begins if all are put under each other, int64 [tables]."""
    return np.cumsum([0, *map(len, tables[:-1])])


FIT_DEVIATION, FACTOR_DEVIATION = 0.15, 0.5
"""What is expected of the sum of the layers' expected divergences, relative: how far it is off for a subnet,
and how far the factor of one layer is from that of all."""


@dataclass(frozen=True)
class AdditiveModel:
    """Divergence as a constant plus what each layer's quantization noise adds to it.

    To second order the divergence is quadratic in the errors of the layers, and independent errors add; the factor
    of each layer is how sensitive the network is to it.

    Attributes:
        constant: nats.
        weight_tables, activation_tables: for each tied set, the nats that the weight and the input format of each
            choice add, float64 [choices].
    """

    constant: float
    weight_tables: tuple[Floats, ...]
    activation_tables: tuple[Floats, ...]

    @cached_property
    def tables(self) -> list[Floats]:
        """For each tied set, the nats that each choice adds, float64 [choices]."""
        return [w + a for w, a in zip(self.weight_tables, self.activation_tables, strict=True)]

    @cached_property
    def _joined(self) -> Floats:
        return np.concatenate(self.tables)

    def predict(self, genes: Genes) -> Floats:
        """Divergence of each row of genes [N, sets], in nats, [N]."""
        total: Floats = self._joined[genes + first_rows(self.tables)].sum(axis=1) + self.constant
        return total

    @classmethod
    def fit(cls, noise: Noise, genes: Genes, divergence: Floats) -> AdditiveModel:
        """Non-negative least squares of the relative error.

        Args:
            noise: of the space that the genes are of.
            genes: int64 [N, sets].
            divergence: measured, positive, [N].
        """
        sets = range(genes.shape[1])
        columns = [noise.weight[i][genes[:, i]] for i in sets] + [noise.activation[i][genes[:, i]] for i in sets]
        columns.append(np.ones(len(genes)))
        matrix = np.stack(columns, axis=1) / divergence[:, None]
        target = np.ones(len(genes))
        if noise.alike:
            matrix, target = _with_prior(matrix, target)
        scale = np.maximum(np.linalg.norm(matrix, axis=0), 1e-300)
        factors = optimize.nnls(matrix / scale, target, maxiter=100 * len(columns))[0] / scale
        count = genes.shape[1]
        return cls(
            max(float(factors[-1]), float(np.min(divergence)) * 1e-3),  # above 0, for logarithms
            tuple(factors[i] * noise.weight[i] for i in sets),
            tuple(factors[count + i] * noise.activation[i] for i in sets),
        )


def _with_prior(matrix: Floats, target: Floats) -> tuple[Floats, Floats]:
    """Rows that hold each factor near the one that all would share, which tells what few samples cannot."""
    shared = np.stack([matrix[:, :-1].sum(1), matrix[:, -1]], axis=1)
    factor = max(float(optimize.nnls(shared, target)[0][0]), 1e-12)
    prior = np.eye(matrix.shape[1])[:-1] * (FIT_DEVIATION / FACTOR_DEVIATION / factor)
    return np.concatenate([matrix, prior]), np.concatenate([target, prior.sum(1) * factor])


@dataclass(frozen=True)
class LinearBaseline:
    """Ridge regression of the logarithm of the divergence on the one-hot formats: what CQAP has to beat."""

    weights: Floats
    constant: float
    tables: list[Floats]

    def predict(self, genes: Genes) -> Floats:
        """Logarithm of the divergence of each row of genes, [N]."""
        result: Floats = gather(self.tables, genes) @ self.weights + self.constant
        return result

    @classmethod
    def fit(cls, space: ElasticSpace, genes: Genes, divergence: Floats, penalty: float = 1.0) -> LinearBaseline:
        """Fits genes [N, sets] to measured divergences [N]."""
        tables = one_hot(space)
        x, y = gather(tables, genes), np.log(divergence)
        centred = x - x.mean(0)
        weights = np.linalg.solve(centred.T @ centred + penalty * np.eye(x.shape[1]), centred.T @ (y - y.mean()))
        return cls(weights, float(y.mean() - x.mean(0) @ weights), tables)


class CQAP:
    """An ensemble of multilayer perceptrons that corrects the additive model, in the logarithm of the divergence.

    Each member sees the one-hot formats of every layer and the additive model's prediction, and is trained with the
    smooth L1 loss; predictions are the members' mean.

    Args:
        space: that the genes are of.
        noise: of the same space.
    """

    members = 4
    hidden = 64
    epochs = 150

    def __init__(self, space: ElasticSpace, noise: Noise) -> None:
        self._noise = noise
        self._tables = one_hot(space)
        self.additive: AdditiveModel | None = None

    def fit(self, genes: Genes, divergence: Floats, seed: int) -> CQAP:
        """Learns from genes int64 [N, sets] and measured divergences [N], in nats; returns itself."""
        with threads(1):  # more would wait for each other most of the time
            return self._fit(genes, divergence, seed)

    def _fit(self, genes: Genes, divergence: Floats, seed: int) -> CQAP:
        divergence = np.maximum(divergence, 1e-9)
        self.additive = AdditiveModel.fit(self._noise, genes, divergence)
        base = np.log(self.additive.predict(genes))
        self._center, self._spread = float(base.mean()), float(base.std()) or 1.0
        target = torch.from_numpy(np.log(divergence) - base).float()
        x = torch.from_numpy(self._inputs(genes, base)).float()
        generator = torch.Generator().manual_seed(seed)
        self._layers = self._new_members(x.shape[1], generator)
        weight = torch.empty(self.members, len(x)).exponential_(generator=generator)  # the Bayesian bootstrap
        first, second = ([torch.zeros_like(layer) for layer in self._layers] for _ in range(2))
        steps = [torch.tensor(0.0) for _ in self._layers]
        for epoch in range(self.epochs):
            error = F.smooth_l1_loss(self._forward(x), target.expand(self.members, -1), reduction="none")
            gradients = list(torch.autograd.grad((error * weight).mean(1).sum(), self._layers))
            # The class torch.optim.AdamW loads torch's compiler, which takes longer than all of this; its function
            # does not.
            with torch.no_grad():
                adamw(
                    self._layers, gradients, first, second, [], steps, fused=True, maximize=False, amsgrad=False,
                    lr=3e-3 * 0.5 * (1 + math.cos(math.pi * epoch / self.epochs)), weight_decay=0.1, beta1=0.9,
                    beta2=0.999, eps=1e-8,
                )  # fmt: skip
        self._compile()
        return self

    def predict(self, genes: Genes) -> Floats:
        """Logarithm of the divergence of each row of genes [N, sets], [N]."""
        assert self.additive is not None, "fit first"
        base = np.log(self.additive.predict(genes))
        relative = torch.from_numpy((base - self._center) / self._spread)
        with threads(1), torch.inference_mode():
            rows = torch.from_numpy(genes + first_rows(self._tables))
            hidden = F.embedding_bag(rows, self._first, mode="sum")
            hidden = (hidden + self._first_bias + relative[:, None] * self._base_row).relu()
            hidden = hidden.view(len(genes), self.members, self.hidden).transpose(0, 1)  # [members, N, hidden]
            for weight, bias in self._rest[:-1]:
                hidden = torch.baddbmm(bias, hidden, weight).relu()
            weight, bias = self._rest[-1]
            correction = torch.baddbmm(bias, hidden, weight)[..., 0].mean(0)
        result: Floats = base + correction.numpy()
        return result

    def _inputs(self, genes: Genes, base: Floats) -> Floats:
        return np.concatenate([gather(self._tables, genes), ((base - self._center) / self._spread)[:, None]], axis=1)

    def _new_members(self, features: int, generator: torch.Generator) -> list[Tensor]:
        layers = []
        for fan_in, fan_out in ((features, self.hidden), (self.hidden, self.hidden), (self.hidden, 1)):
            weight = torch.randn(self.members, fan_in, fan_out, generator=generator) * (2 / fan_in) ** 0.5
            layers += [weight * (0.1 if fan_out == 1 else 1.0), torch.zeros(self.members, 1, fan_out)]
        return [layer.requires_grad_() for layer in layers]

    def _forward(self, x: Tensor) -> Tensor:
        hidden = x.expand(self.members, -1, -1)
        for i in range(0, len(self._layers), 2):
            hidden = torch.baddbmm(self._layers[i + 1], hidden, self._layers[i])
            if i + 2 < len(self._layers):
                hidden = hidden.relu()
        return hidden[..., 0]

    def _compile(self) -> None:
        """Turns the first layer into one row a choice, so that predicting is a few look-ups and two products."""
        layers = [layer.detach().double() for layer in self._layers]
        width = self.members * self.hidden
        first = layers[0].transpose(0, 1).reshape(-1, width)
        parts, start = [], 0
        for table in self._tables:
            parts.append(torch.from_numpy(table) @ first[start : start + table.shape[1]])
            start += table.shape[1]
        self._first = torch.cat(parts)  # [choices of all sets, width]
        self._base_row = first[start]
        self._first_bias = layers[1].reshape(width)
        self._rest = list(zip(layers[2::2], layers[3::2], strict=True))
