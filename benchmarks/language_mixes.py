"""eqnet's forms of a language model: uniform ones, and the mixes that it finds for a number of bits."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from language_subjects import Figures, Kept, Subject

from eqnet.formats import Format, LayerFormat
from eqnet.lm.engine import engine_of
from eqnet.lm.quantizing import quantize
from eqnet.lm.run import LanguageRun, Plan
from eqnet.lm.search import settings_of
from eqnet.lm.space import choices_of, space_of
from eqnet.packed.model import PackedModel
from eqnet.search.budget import Budget
from eqnet.search.result import LayerResult
from eqnet.subnet import Subnet

UNIFORM = (
    *((method, f"uint{bits}:group128") for method in ("rtn", "gptq") for bits in range(2, 7)),
    ("rtn", "int4:channel"),
)
"""Methods and formats of uniform networks, as published ones have them; the last is INT4 of GLM-130B."""


@dataclass(frozen=True)
class Way:
    """How eqnet makes a form of the model, and runs it.

    Attributes:
        compute: see ``PackedModel.compute``.
        threads: to take.
        samples: networks that are measured before the first prediction.
        space: that is searched.
        method: that the codes of mixes come from at last; all are searched for on those of ``gptq``.
        text: files that codes are trained on; eqnet's own text if there are none.
    """

    compute: str
    threads: int
    samples: int
    space: str
    method: str
    text: tuple[Path, ...] = ()

    def __str__(self) -> str:
        return f"{self.samples} {self.compute} {self.method}{' more text' if self.text else ''}"


@dataclass(frozen=True)
class Mix:
    """What one budget led to.

    Attributes:
        budget: bits per weight, at most.
        figures: of the mix.
        seconds: of the search.
        whole: whether the search started from nothing, rather than from the measurements for another budget.
        packing: seconds from the formats that were found to the packed model.
        tau: Kendall's, of predictions of networks that the predictor had not seen.
        measured: networks that were measured, with those of earlier budgets.
        widths: mean bits of a code, by the role of the layers.
    """

    budget: float
    figures: Figures
    seconds: float
    whole: bool
    packing: float
    tau: float
    measured: int
    widths: Mapping[str, float]


def uniform(subject: Subject, forms: Sequence[tuple[str, str]], way: Way, kept: Kept) -> Iterator[tuple[str, Figures]]:
    """Name and figures of each uniform network; ``forms`` are methods and the one format of all layers."""
    space = space_of(subject.source, choices_of(way.space))
    for method, text in forms:
        name = f"uniform {method} {text}"
        subnet = space.nearest(LayerFormat(Format.parse(text), None))
        yield name, kept.figures(f"{name} {way.compute}", lambda m=method, s=subnet: _alike(subject, s, m, way))


def _alike(subject: Subject, subnet: Subnet, method: str, way: Way) -> Figures:
    return _judged(subject, quantize(subject.source, subnet, method=method, ids=subject.calibration), way)


def mixes(subject: Subject, folder: Path, budgets: Sequence[float], way: Way, kept: Kept) -> Iterator[Mix]:
    """The mix for each budget, all from one run's folder, which is opened anew for each as the command does it."""
    for budget in budgets:
        name = f"mix {budget:.4f} {way}"
        yield _mix(kept.numbers(name, lambda b=budget: _found(subject, folder, b, way)))


def _found(subject: Subject, folder: Path, budget: float, way: Way) -> dict[str, float]:
    start, whole = time.perf_counter(), not folder.exists()
    with LanguageRun(folder, Plan(str(subject.source.path), space=way.space)) as run:
        result = run.search([Budget.parse(f"{budget:.4f}bpw")], settings_of(way.samples, 0, run.plan.seed)).result
        searched = time.perf_counter()
        packed = run.packed(result.subnet, result, way.method, way.text)
    took = {"seconds": searched - start, "packing": time.perf_counter() - searched}
    predictor = {"tau": result.predictor.kendall_tau, "measured": result.predictor.measured}
    figures = asdict(_judged(subject, packed, way))
    return {"budget": budget, "whole": whole, **took, **predictor, **figures, **_widths(result.layers)}


def _mix(numbers: Mapping[str, float]) -> Mix:
    figures = Figures(*(numbers[name] for name in ("bpw", "perplexity", "divergence")))
    roles = {name.removeprefix(_WIDTH): value for name, value in numbers.items() if name.startswith(_WIDTH)}
    return Mix(
        budget=numbers["budget"],
        figures=figures,
        seconds=numbers["seconds"],
        whole=bool(numbers["whole"]),
        packing=numbers["packing"],
        tau=numbers["tau"],
        measured=int(numbers["measured"]),
        widths=roles,
    )


def _judged(subject: Subject, packed: PackedModel, way: Way) -> Figures:
    return subject.judged(engine_of(packed, compute=way.compute, threads=way.threads), packed.bpw)


_WIDTH = "width of "


def _widths(layers: Sequence[LayerResult]) -> dict[str, float]:
    """Mean bits of a code by role: the last part of a layer's path, and which third of the blocks it is in."""
    blocks = 1 + max(int(number) for layer in layers for number in re.findall(r"\.(\d+)\.", layer.name))
    bits: defaultdict[str, int] = defaultdict(int)
    weights: defaultdict[str, int] = defaultdict(int)
    for layer in layers:
        role = layer.name.rsplit(".", 1)[-1]
        if found := re.search(r"\.(\d+)\.", layer.name):
            role = f"{role} {('first', 'middle', 'last')[3 * int(found[1]) // blocks]}"
        bits[role] += layer.weights * layer.weight_format.bits
        weights[role] += layer.weights
    return {f"{_WIDTH}{role}": bits[role] / weights[role] for role in bits}
