"""Genetic search under constraints, and NSGA-II for a whole Pareto front, with DEAP's selection and archives.

The genetic search is that of EQ-Net (Xu et al., ICCV 2023, arXiv 2308.07650, sec. 3.4). DEAP keeps its random numbers
and its classes in globals; here the generator is an argument, the toolbox and the classes are local, and only those
of DEAP's functions are used that draw nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from eqnet.errors import EqnetError, InputError
from eqnet.search.variation import Floats, Genes, Ints, Variation

Predict: TypeAlias = Callable[[Genes], Floats]
"""Losses of genes, int64 [P, sets] to float [P]; lower is better."""

RETRIES = 3
"""Times that a child which was evaluated before is replaced by another; then it is dropped."""


@dataclass(frozen=True)
class Evolution:
    """What a genetic search found.

    Attributes:
        genes: the best, int64 [sets].
        value: its loss.
        history: the best loss after each generation, of the first population too, float64 [generations + 1].
        top: the best distinct genes of all generations, best first, int64 [K, sets].
        values: their losses, float64 [K].
        evaluated: how many genes the predictor saw.
    """

    genes: Genes
    value: float
    history: Floats
    top: Genes
    values: Floats
    evaluated: int


class Individual(tuple[int, ...]):
    """Genes with a DEAP fitness; immutable, so that DEAP's archives need not copy it."""

    fitness: Any

    def __deepcopy__(self, memo: object) -> Individual:
        return self


def genetic_search(
    sizes: Ints,
    predict: Predict,
    costs: Sequence[Sequence[Ints]],
    limits: Sequence[int],
    rng: np.random.Generator,
    *,
    population: int = 100,
    generations: int = 500,
    parents: float = 0.25,
    mutation_share: float = 0.5,
    mutation_rate: float = 0.1,
    seeds: Sequence[Genes] = (),
    patience: int | None = None,
    tolerance: float = 0.0,
    top: int = 16,
) -> Evolution:
    """Searches for the genes of least predicted loss that keep to every limit.

    In each generation the best are the parents of new children, part by mutation and the rest by crossover; children
    that break a limit are repaired, and nothing is evaluated twice. Parents stay until better ones turn up.

    Args:
        sizes: number of choices of each tied set, int64 [sets].
        predict: batched predictor of the loss.
        costs: for each limit and each set, what its choices add, int64 [choices].
        limits: the largest sum for each row of ``costs``.
        rng: the source of randomness; the same state gives the same result.
        population: children in a generation.
        generations: of children.
        parents: share of the population that is kept.
        mutation_share: share of the children that mutation makes.
        mutation_rate: probability that mutation redraws a gene.
        seeds: genes [sets] of the first population; repaired if they break a limit.
        patience: stop after so many generations that together gained no more than ``tolerance``; never if None.
        tolerance: in the unit of the loss.
        top: how many of the best distinct genes to return.

    Raises:
        BudgetError: no genes meet the limits.
        EqnetError: the predictor returns NaN.
    """
    from deap import base, tools

    _check(sizes, population, seeds)
    variation = Variation(sizes, costs, limits, rng, mutation_rate)
    archive = _Archive(predict, objectives=1)
    best = tools.HallOfFame(max(top, 1))
    logbook = tools.Logbook()
    toolbox = base.Toolbox()
    toolbox.register("mutate", variation.mutate)
    toolbox.register("mate", variation.crossover)
    toolbox.register("repair", variation.repair)
    toolbox.register("fresh", variation.random)
    toolbox.register("select", tools.selBest, k=max(1, round(parents * population)))

    def record(generation: int, evaluated: Sequence[Individual]) -> None:
        best.update(evaluated)
        logbook.record(gen=generation, nevals=len(evaluated), best=best[0].fitness.values[0])

    people = archive.evaluate(_first(variation, population, seeds))
    record(0, people)
    stale, reached = 0, best[0].fitness.values[0]
    for generation in range(1, generations + 1):
        chosen = toolbox.select(people)
        children = _children(toolbox, archive, np.array(chosen), population, mutation_share)
        evaluated = archive.evaluate(children)
        record(generation, evaluated)
        people = chosen + evaluated
        value = best[0].fitness.values[0]
        if value < reached - tolerance:
            stale, reached = 0, value
        else:
            stale += 1
        if patience is not None and stale >= patience:
            break
    values = np.array([individual.fitness.values[0] for individual in best])
    genes = np.array(list(best), dtype=np.int64)
    return Evolution(genes[0], float(values[0]), np.array(logbook.select("best")), genes, values, len(archive))


def pareto_search(
    sizes: Ints,
    predict: Predict,
    cost: Sequence[Ints],
    rng: np.random.Generator,
    *,
    further: Sequence[Sequence[Ints]] = (),
    costs: Sequence[Sequence[Ints]] = (),
    limits: Sequence[int] = (),
    population: int = 100,
    generations: int = 200,
    mutation_share: float = 0.5,
    mutation_rate: float = 0.1,
    seeds: Sequence[Genes] = (),
) -> list[tuple[Genes, float, int]]:
    """Traces the Pareto front of predicted loss against cost by NSGA-II (Deb et al., 2002).

    Parents win tournaments by front and crowding distance; they and their children survive by the same order. What is
    returned is the front of everything that was evaluated, not of the last population alone.

    Args:
        sizes: number of choices of each tied set, int64 [sets].
        predict: batched predictor of the loss.
        cost: for each set, what its choices add to the cost that is traded, int64 [choices].
        rng: the source of randomness.
        further: tables of more costs that are traded at the same time.
        costs: tables of costs that are limited, see ``genetic_search``.
        limits: the largest sum for each row of ``costs``.
        population: that survives a generation.
        generations: of children.
        mutation_share: share of the children that mutation makes.
        mutation_rate: probability that mutation redraws a gene.
        seeds: genes [sets] of the first population.

    Returns:
        (genes, loss, cost) of every point of the front, cheapest first.

    Raises:
        BudgetError: no genes meet the limits.
        EqnetError: the predictor returns NaN.
    """
    from deap import base, tools

    _check(sizes, population, seeds)
    traded = [cost, *further]
    variation = Variation(sizes, costs, limits, rng, mutation_rate)
    archive = _Archive(predict, objectives=1 + len(traded), costs=traded)
    toolbox = base.Toolbox()
    toolbox.register("mutate", variation.mutate)
    toolbox.register("mate", variation.crossover)
    toolbox.register("repair", variation.repair)
    toolbox.register("fresh", variation.random)
    toolbox.register("select", tools.selNSGA2, k=population, nd="log")

    people = toolbox.select(archive.evaluate(_first(variation, population, [*_ends(traded), *seeds])))
    for _ in range(generations):
        chosen = _tournament(people, rng)
        children = _children(toolbox, archive, chosen, population, mutation_share)
        people = toolbox.select(people + archive.evaluate(children))
    return archive.front()


class _Archive:
    """Everything that was evaluated, so that nothing is evaluated twice.

    Args:
        predict: gives the first objective.
        objectives: how many there are.
        costs: tables of the others.
    """

    def __init__(self, predict: Predict, objectives: int, costs: Sequence[Sequence[Ints]] = ()) -> None:
        self._predict, self._costs = predict, costs
        self._fitness = _fitness_class(objectives)
        self._seen: set[bytes] = set()
        self._genes: list[Genes] = []
        self._values: list[Floats] = []

    def __len__(self) -> int:
        return len(self._seen)

    def unseen(self, genes: Genes) -> Genes:
        """The rows that were not evaluated yet, each once, in their order."""
        new = {row.tobytes(): i for i, row in reversed(list(enumerate(genes)))}
        return genes[sorted(i for key, i in new.items() if key not in self._seen)]

    def evaluate(self, genes: Genes) -> list[Individual]:
        """Predicts rows [P, sets] that ``unseen`` returned."""
        if not len(genes):
            return []
        losses = np.asarray(self._predict(genes), dtype=np.float64)
        if losses.shape != (len(genes),) or np.isnan(losses).any():
            raise EqnetError(f"the predictor gave {losses.shape} values, or NaN, for {len(genes)} networks")
        values = np.stack([losses, *(_sum(tables, genes) for tables in self._costs)], axis=1)
        self._seen.update(row.tobytes() for row in genes)
        self._genes.append(genes)
        self._values.append(values)
        people = []
        for row, value in zip(genes.tolist(), values.tolist(), strict=True):
            individual = Individual(row)
            individual.fitness = self._fitness(value)
            people.append(individual)
        return people

    def front(self) -> list[tuple[Genes, float, int]]:
        """The rows that no other row matches or beats in every objective: (genes, loss, first cost)."""
        genes, values = np.concatenate(self._genes), np.concatenate(self._values)
        order = np.lexsort((*values.T[2:], values[:, 0], values[:, 1]))
        kept: list[int] = []
        front = np.empty((0, values.shape[1]))
        for i in order:  # by cost, so that only earlier rows can match or beat a later one
            if not (front <= values[i]).all(axis=1).any():
                kept.append(int(i))
                front = values[kept]
        return [(genes[i], float(values[i, 0]), int(values[i, 1])) for i in kept]


@cache
def _fitness_class(objectives: int) -> Any:
    """A DEAP fitness that minimises so many objectives, without DEAP's global ``creator``."""
    from deap import base

    return type("Fitness", (base.Fitness,), {"weights": (-1.0,) * objectives})


def _check(sizes: Ints, population: int, seeds: Sequence[Genes]) -> None:
    if population < 2:
        raise InputError(f"a population of {population} cannot evolve; take 2 or more")
    for seed in seeds:
        if np.shape(seed) != np.shape(sizes) or (np.asarray(seed) < 0).any() or (np.asarray(seed) >= sizes).any():
            raise InputError(f"a seed's genes {np.asarray(seed).tolist()} do not fit the {len(sizes)} tied sets")


def _sum(tables: Sequence[Ints], genes: Genes) -> Ints:
    total = np.zeros(len(genes), dtype=np.int64)
    for i, table in enumerate(tables):
        total += table[genes[:, i]]
    return total


def _ends(costs: Sequence[Sequence[Ints]]) -> list[Genes]:
    """The cheapest and the dearest genes of each cost, between which a front lies."""
    return [np.array([int(pick(t)) for t in cost], dtype=np.int64) for cost in costs for pick in (np.argmin, np.argmax)]


def _first(variation: Variation, population: int, seeds: Sequence[Genes]) -> Genes:
    """The seeds and then random genes, feasible and distinct, int64 [at most population, sets]."""
    given = np.array([np.asarray(seed) for seed in seeds], dtype=np.int64).reshape(-1, len(variation.sizes))
    genes = np.concatenate([variation.repair(given), variation.random(population)])
    distinct = np.unique(genes, axis=0, return_index=True)[1]
    return genes[np.sort(distinct)[:population]]


def _children(toolbox: Any, archive: _Archive, parents: Genes, count: int, mutation_share: float) -> Genes:
    """Up to ``count`` feasible genes that were never evaluated; the last try draws them afresh."""
    children = np.empty((0, parents.shape[1]), dtype=np.int64)
    for attempt in range(RETRIES + 1):
        missing = count - len(children)
        if not missing:
            break
        if attempt < RETRIES:
            mutants = round(missing * mutation_share)
            drawn = np.concatenate([toolbox.mutate(parents, mutants), toolbox.mate(parents, missing - mutants)])
            drawn = toolbox.repair(drawn)
        else:
            drawn = toolbox.fresh(missing)
        children = archive.unseen(np.concatenate([children, drawn]))
    return children


def _tournament(people: Sequence[Individual], rng: np.random.Generator) -> Genes:
    """Winners of pairs drawn from people, by front and then by crowding distance, int64 [P, sets]."""
    from deap import tools

    rank = {id(p): i for i, front in enumerate(tools.sortLogNondominated(people, len(people))) for p in front}
    # Smaller is better in both: the front's number, and less room around it.
    keys = np.array([(rank[id(p)], -p.fitness.crowding_dist) for p in people])
    place = np.empty(len(people), dtype=np.int64)
    place[np.lexsort((keys[:, 1], keys[:, 0]))] = np.arange(len(people))
    first, second = rng.integers(0, len(people), (2, len(people)))
    winners: Genes = np.array(people, dtype=np.int64)[np.where(place[first] <= place[second], first, second)]
    return winners
