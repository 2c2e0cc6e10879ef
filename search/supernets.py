"""A supernet and its task, as a search sees them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from eqnet.data import calibration_inputs, fingerprint
from eqnet.formats import MAX_BITS, MIN_BITS, Format, Granularity, LayerFormat
from eqnet.search.measure import Judge
from eqnet.search.noise import Noise, quantization_noise
from eqnet.search.problem import Problem
from eqnet.search.sampling import sample_genes
from eqnet.search.score import ACCURACY
from eqnet.search.store import Measurement
from eqnet.search.subject import Formats, Genes, Part, Standing
from eqnet.space import ElasticSpace
from eqnet.subnet import Subnet
from eqnet.supernet import Supernet
from eqnet.tasks.task import Task


class SupernetSubject:
    """A ``Subject``.

    Args:
        supernet: calibrated, and trained or not.
        task: its validation data is what a search sees; its test data is read when a standing on it is asked for.
        samples: of the validation data that ``quick`` measures on.
    """

    score = ACCURACY

    def __init__(self, supernet: Supernet, task: Task, samples: int) -> None:
        self.name = task.name
        self._supernet, self._task, self._samples = supernet, task, samples

    @property
    def space(self) -> ElasticSpace:
        return self._supernet.space

    def fingerprint(self) -> str:
        return f"{self._supernet.fingerprint()}:{fingerprint(self._task)}:{self._samples}"

    def sample(self, count: int, rng: np.random.Generator) -> Genes:
        return sample_genes(self.space, count, rng)

    def noise(self) -> Noise:
        device = next(self._supernet.parameters()).device
        return quantization_noise(self._supernet, calibration_inputs(self._task, device))

    def quick(self, subnet: Formats) -> Measurement:
        return self._quick.measure(subnet)

    def full(self, subnet: Formats) -> Measurement:
        return self._full.measure(subnet)

    def standing(self, subnet: Formats | None, part: Part) -> Standing:
        judge = self._full if part == "validation" else self._test
        return Standing(judge.accuracy_of(self._task.model) if subnet is None else judge.accuracy(subnet))

    def uniform(self, problem: Problem, winner: Subnet) -> Mapping[int, Subnet]:
        return uniform_subnets(problem)

    @cached_property
    def _quick(self) -> Judge:
        return Judge(self._supernet, self._task, self._task.validation, self._samples)

    @cached_property
    def _full(self) -> Judge:
        return Judge(self._supernet, self._task, self._task.validation)

    @cached_property
    def _test(self) -> Judge:
        return Judge(self._supernet, self._task, self._task.test)


def uniform_subnets(problem: Problem) -> dict[int, Subnet]:
    """The network with one width throughout, for each width that the space has.

    Weights are symmetric and per channel, inputs asymmetric. Inputs have the same width as the weights if a budget
    bounds them, and the widest otherwise, as the search itself then leaves them.
    """
    bounded = {b.metric for b in problem.budgets} & {"activation_bits", "bops"}
    subnets: dict[int, Subnet] = {}
    for bits in range(MIN_BITS, MAX_BITS + 1):
        wanted = LayerFormat(Format(bits, True, Granularity.CHANNEL), Format(bits if bounded else MAX_BITS, False))
        subnet = problem.space.nearest(wanted)
        free = [tied for tied in problem.space.sets if not tied.edge]
        if all(subnet[tied.name].weight.bits == bits for tied in free):
            subnets[bits] = subnet
    return subnets
