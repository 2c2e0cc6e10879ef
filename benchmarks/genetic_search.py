"""The genetic search: its time at EQ-Net's size on one core, and whether it finds what enumeration finds.

The timed search has a population of 100, 500 generations and 20 layers of 7 × 7 widths, and asks a fitted CQAP. The
others are on 7 layers × 7 widths under a budget of 4 bits, small enough to predict every network, and stop after 50
generations without a better one, as ``eqnet search`` does; one asks a fitted CQAP, the other a sum of random numbers,
one for each pair of choices of neighbouring layers, which is far from additive.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from common import show
from threadpoolctl import threadpool_limits

from eqnet import Choices
from eqnet.search.genetic import genetic_search
from eqnet.search.noise import Noise
from eqnet.search.predictor import CQAP
from eqnet.search.sampling import sample_genes
from eqnet.space import ElasticSpace, Layer, TiedSet

Genes = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]

BATCH = 20_000
"""Networks that are predicted at once when all of them are."""

TIE = 1e-12
"""Predictions of one network differ by less, for the order of summing depends on the size of the batch."""


def space(layers: int, text: str) -> ElasticSpace:
    """Linear layers of growing size."""
    choices = Choices.parse(text).formats()
    return ElasticSpace(
        tuple(
            TiedSet((Layer(f"layer{i}", "Linear", 64 + 8 * i, 64, 64 * (64 + 8 * i), 64),), choices)
            for i in range(layers)
        )
    )


def fitted(of: ElasticSpace, seed: int) -> CQAP:
    """A CQAP that learned 300 networks of a divergence whose layers' errors grow through each other."""
    rng = np.random.default_rng(seed)
    noise = Noise(
        tuple(np.array([4.0**-c.weight.bits for c in tied.choices]) for tied in of.sets),
        tuple(np.array([4.0**-c.activation.bits if c.activation else 0.0 for c in tied.choices]) for tied in of.sets),
    )
    sensitivity = rng.exponential(size=(len(of.sets), 2))
    genes = sample_genes(of, 300, rng)
    parts = np.stack(
        [
            a * noise.weight[i][genes[:, i]] + b * noise.activation[i][genes[:, i]]
            for i, (a, b) in enumerate(sensitivity)
        ]
    )
    divergence = 1e-4 + parts.sum(0) + 20 * (parts[:-1] * parts[1:]).sum(0)
    return CQAP(of, noise).fit(genes, divergence, seed)


def coupled(seed: int) -> Callable[[Genes], Floats]:
    """A loss of 7 layers × 7 choices in which the best choice of a layer depends on its neighbours'."""
    rng = np.random.default_rng([seed, 1])
    own = rng.exponential(size=(7, 7))
    pairs = rng.normal(size=(6, 7, 7))

    def loss(genes: Genes) -> Floats:
        layers = np.arange(7)
        return own[layers, genes].sum(1) + pairs[layers[:-1], genes[:, :-1], genes[:, 1:]].sum(1)

    return loss


def code_bits(of: ElasticSpace, mean: float) -> tuple[list[list[Genes]], list[int]]:
    """The tables and the limit of a budget of so many code bits."""
    cost = [np.array([c.weight.bits * tied.layers[0].weights for c in tied.choices]) for tied in of.sets]
    return [cost], [int(mean * sum(tied.layers[0].weights for tied in of.sets))]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seeds", type=int, default=20)
    options.add_argument("--json", action="store_true", help="print JSON")
    arguments = options.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)  # NumPy's products

    large = space(20, "w=2-8:channel:sym a=2-8:asym edge=none")
    predictor, (costs, limits) = fitted(large, 0), code_bits(large, 4)
    seconds = []
    for seed in range(3):
        start = time.perf_counter()
        genetic_search(large.sizes, predictor.predict, costs, limits, np.random.default_rng(seed))
        seconds.append(time.perf_counter() - start)

    rows: list[dict[str, object]] = [
        {"what": "100 × 500, 20 layers × 7 × 7, one core: seconds", "value": float(np.median(seconds)), "bar": "≤ 5"}
    ]
    small = space(7, "w=2-8:channel:sym a=8:asym edge=none")
    every = np.array(list(product(*map(range, small.sizes))), dtype=np.int64)
    costs, limits = code_bits(small, 4)
    met = every[sum(table[every[:, i]] for i, table in enumerate(costs[0])) <= limits[0]]
    for name, objective in (("CQAP", lambda seed: fitted(small, seed).predict), ("random pairs", coupled)):
        found, seen = 0, []
        for seed in range(arguments.seeds):
            predict = objective(seed)
            best = min(predict(met[i : i + BATCH]).min() for i in range(0, len(met), BATCH))
            rng = np.random.default_rng(seed)
            # As patient as the search itself is, so that far from every network is tried.
            evolution = genetic_search(small.sizes, predict, costs, limits, rng, patience=50)
            found += bool(evolution.value <= best + TIE)
            seen.append(evolution.evaluated)
        rows += [
            {"what": f"{name}, best of {len(met):,} networks: seeds", "value": found, "bar": str(arguments.seeds)},
            {"what": f"{name}: networks tried, median", "value": int(np.median(seen)), "bar": ""},
        ]
    show(rows, arguments.json)


if __name__ == "__main__":
    main()
