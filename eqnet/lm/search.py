"""A language model, as a search sees it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eqnet.errors import BudgetError
from eqnet.formats import MAX_BITS, MIN_BITS, Format, Granularity, LayerFormat
from eqnet.lm.bank import Bank, Shared
from eqnet.lm.judge import LanguageJudge, Workbench
from eqnet.lm.kept import KeptTensors
from eqnet.lm.spread import spread
from eqnet.search.budget import Budget
from eqnet.search.noise import Noise
from eqnet.search.problem import Problem
from eqnet.search.score import PERPLEXITY
from eqnet.search.settings import Settings
from eqnet.search.store import Measurement, Store
from eqnet.search.subject import Formats, Genes, Part, Standing
from eqnet.space import ElasticSpace
from eqnet.subnet import Subnet

Report = Callable[[str, int, int], None]

METRICS = ("code_bits", "bpw", "bytes")
"""What budgets of language models bound."""

UNIFORM_GROUP = 128
"""Weights of a group in the uniform networks that the winner is shown beside, as published ones have it."""


def settings_of(samples: int, pareto: int, seed: int) -> Settings:
    """How hard a language model is searched: its networks are few and slow to measure, and well predicted.

    What the predictor likes best is alike but for a few layers, and so is what it is worth: the best proposal, beside
    the additive model's optimum, stands for all of them, and what the two turn out to be worth teaches it little more.
    """
    return Settings(
        samples=samples,
        held_out=samples // 3,
        rounds=1,
        verified=1,
        doubt=3.0,
        finalists=1,
        pareto=pareto,
        seed=seed,
    )


def check_budgets(budgets: Sequence[Budget]) -> None:
    """Raises BudgetError if a budget bounds what means nothing for a language model."""
    for budget in budgets:
        if budget.metric not in METRICS:
            raise BudgetError(
                f"budget '{budget}': of a language model the stored bits per weight can be bounded (4.25bpw), the mean "
                "width of its codes (4bit) or its size (300MB); its weights alone are quantized"
            )


@dataclass(frozen=True, eq=False)
class Windows:
    """Held-out text, int64 [N, T] each.

    Attributes:
        validation: what a search sees; every network that is measured reads all of it.
        test: what it does not see.
    """

    validation: Tensor
    test: Tensor

    @classmethod
    def split(cls, windows: Tensor) -> Windows:
        """One half to search on, the other to test on; the same single window for both if there is no other."""
        half = max(1, len(windows) // 2)
        return cls(windows[:half], windows[half:] if len(windows) > 1 else windows)


class LanguageSubject:
    """A ``Subject``.

    Args:
        name: for people.
        identity: of the model, the calibration text and the method that the codes come from.
        space: pruned; what may be proposed.
        whole: the same before it was pruned, which has the uniform networks.
        shared: by the name of a tied set, its weights.
        bank: has the codes.
        bench: has the model.
        windows: held-out text.
        final: store of what networks are presented by, on the validation and the test text; None keeps none.
        kept: of the judge of the validation text; None keeps nothing.
        report: told (stage, done, total).
    """

    score = PERPLEXITY

    def __init__(
        self,
        name: str,
        identity: str,
        space: ElasticSpace,
        whole: ElasticSpace,
        shared: Mapping[str, Sequence[Shared]],
        bank: Bank,
        bench: Workbench,
        windows: Windows,
        final: Mapping[Part, Store] | None = None,
        kept: KeptTensors | None = None,
        report: Report | None = None,
    ) -> None:
        self.name, self._identity = name, identity
        self._space, self._whole, self._shared, self._bank = space, whole, shared, bank
        self._windows, self._final, self._report = windows, final or {}, report
        self._judges = {
            "validation": LanguageJudge(bench, windows.validation, kept=kept),
            "test": LanguageJudge(bench, windows.test, compared=False),
        }
        self._measured: dict[str, Measurement] = {}  # on the validation text, of subnets as JSON

    @property
    def space(self) -> ElasticSpace:
        return self._space

    def fingerprint(self) -> str:
        return f"{self._identity}:{digest(self._windows.validation)}"

    def sample(self, count: int, rng: np.random.Generator) -> Genes:
        self._prepare()
        self._judges["validation"].begin()  # while the predictor learns from what is measured already
        return spread(self._space, self.noise().weight, count, rng)

    def noise(self) -> Noise:
        return self._noise

    def close(self) -> None:
        """Ends what goes on beside the search."""
        self._judges["validation"].stop()

    def quick(self, subnet: Formats) -> Measurement:
        found = self._judges["validation"].measure(subnet)
        self._measured[_key(subnet)] = found
        return found

    def full(self, subnet: Formats) -> Measurement:
        return self._final_of(subnet, "validation")

    def standing(self, subnet: Formats | None, part: Part) -> Standing:
        measured = self._final_of(subnet, part)
        return Standing(self.score.of(measured), measured.divergence if part == "validation" else None)

    def uniform(self, problem: Problem, winner: Subnet) -> Mapping[int, Subnet]:
        subnets = {bits: uniform_subnet(self._whole, bits) for bits in range(MIN_BITS, MAX_BITS + 1)}
        return {bits: subnet for bits, subnet in subnets.items() if any(c.weight.bits == bits for c in subnet.values())}

    def _final_of(self, subnet: Formats | None, part: Part) -> Measurement:
        """On the text of a part; from its store if it is there."""
        store = self._final.get(part)
        key: Formats = subnet if subnet is not None else {}
        found = store.get(key) if store is not None else None
        if found is None:
            known = self._measured.get(_key(key)) if part == "validation" else None
            found = known or self._judges[part].measure(subnet)
            if store is not None:
                store.add(key, found)
        return found

    def _prepare(self) -> None:
        """Makes the codes of every choice, and of the uniform networks."""
        uniform = [uniform_subnet(self._whole, bits) for bits in range(MIN_BITS, MAX_BITS + 1)]
        wanted: dict[Shared, list[Format]] = {}
        for tied in self._space.sets:
            formats = [choice.weight for choice in tied.choices]
            formats += [subnet[tied.name].weight for subnet in uniform]
            wanted |= {layers: list(dict.fromkeys(formats)) for layers in self._shared[tied.name]}
        self._bank.prepare(wanted, self._report)

    @cached_property
    def _noise(self) -> Noise:
        """What the codes themselves are expected to cost."""
        weight = tuple(
            np.array([sum(self._bank.nats(w, c.weight) for w in self._shared[tied.name]) for c in tied.choices])
            for tied in self._space.sets
        )
        return Noise(weight, tuple(np.zeros(len(table)) for table in weight), alike=True)


def digest(windows: Tensor) -> str:
    """Of the ids of a text, 16 digits."""
    return hashlib.sha256(windows.numpy().tobytes()).hexdigest()[:16]


def _key(subnet: Formats) -> str:
    return json.dumps({name: str(fmt) for name, fmt in subnet.items()}, sort_keys=True)


def uniform_subnet(space: ElasticSpace, bits: int) -> Subnet:
    """The network of one width throughout, in groups of ``UNIFORM_GROUP`` with zero points where the space has them."""
    return space.nearest(LayerFormat(Format(bits, False, Granularity.GROUP, UNIFORM_GROUP), None))


def shared_weights(model: Any, space: ElasticSpace) -> dict[str, tuple[Shared, ...]]:
    """The weights of each tied set, by its name; layers that have one weight are together.

    Codes of a weight that is looked up and multiplied are fitted to what it is multiplied by.
    """
    found = {}
    for tied in space.sets:
        by_weight: dict[int, list[str]] = {}
        for layer in tied.layers:
            by_weight.setdefault(id(model.get_submodule(layer.name).weight), []).append(layer.name)
        found[tied.name] = tuple(Shared(tuple(paths), paths[-1]) for paths in by_weight.values())
    return found


def scale_dtype(space: ElasticSpace) -> torch.dtype:
    """The type that scales are stored in."""
    return torch.float16 if space.scale_bits == 16 else torch.float32
