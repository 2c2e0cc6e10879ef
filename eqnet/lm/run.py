"""A run of a language model: what is searched, and the folder in which all that was measured is kept.

The folder holds ``plan.json``; ``text.safetensors``, token ids; ``sensitivity.json``, the divergence expected of each
format; ``codes/``, the layers in the formats that are left (see ``bank.py``); ``hidden.safetensors``, what the model in
floating point has on the text (see ``judge.py``); ``measurements.sqlite`` and, on all held-out text,
``validation.sqlite`` and ``test.sqlite``; and what was found: ``subnet.json``, ``result.json``, ``report.html``,
``figures/``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from eqnet.errors import InputError, RunError
from eqnet.files import remove_unfinished, write_atomically
from eqnet.formats import LayerFormat
from eqnet.lm.assembling import assembled
from eqnet.lm.bank import Bank, Shared
from eqnet.lm.evaluation import perplexity
from eqnet.lm.judge import Workbench
from eqnet.lm.kept import KeptTensors
from eqnet.lm.methods import Method
from eqnet.lm.pruning import expected_divergence, pruned
from eqnet.lm.qat import QuantizationAwareTraining
from eqnet.lm.quantizing import DISTILL, QAT, TRAINED_FROM, check_subnet, codes_of, quantize
from eqnet.lm.recipe import Recipe
from eqnet.lm.search import LanguageSubject, Windows, check_budgets, digest, scale_dtype, shared_weights
from eqnet.lm.sensitivity import Sensitivity, sensitivity_of
from eqnet.lm.source import open_source
from eqnet.lm.space import choices_of, space_of
from eqnet.lm.texts import SEARCH_WINDOWS, Texts, text_identity, texts_of
from eqnet.lock import RunLock
from eqnet.packed.model import PackedModel
from eqnet.packed.tensor import PackedTensor
from eqnet.run import KEPT as KEPT_OF_TASKS
from eqnet.run import LANGUAGE_MANIFEST as MANIFEST
from eqnet.run import MANIFEST as MANIFEST_OF_TASKS
from eqnet.search.budget import Budget
from eqnet.search.driver import Settings, search_subject
from eqnet.search.problem import Problem
from eqnet.search.result import ReportData, SearchResult
from eqnet.search.store import Store
from eqnet.search.subject import Part
from eqnet.space import ElasticSpace
from eqnet.target import Target

Report = Callable[[str, int, int], None]

SENSITIVITY = "sensitivity.json"
CODES = "codes"
HIDDEN = "hidden.safetensors"
TEXT = "text.safetensors"
_FINAL: Mapping[Part, str] = {"validation": "validation.sqlite", "test": "test.sqlite"}
_DATABASES = tuple(f"{name}{end}" for name in _FINAL.values() for end in ("", "-shm", "-wal"))
_OF_TASKS = tuple(name for name in KEPT_OF_TASKS if name != MANIFEST_OF_TASKS)
KEPT = (MANIFEST, SENSITIVITY, CODES, TEXT, HIDDEN, *_DATABASES, *_OF_TASKS)
"""What a run keeps in its folder, and all that starting over removes."""

_BACKWARD = 24
"""Windows of calibration text that go backward through the model, which takes three times as long as forward alone."""


@dataclass(frozen=True)
class Plan:
    """What decides the measurements of a run.

    Attributes:
        model: folder or .gguf file.
        method: that makes codes: one of ``METHODS``, or one that trains those of what is packed at last.
        text: files that calibration and held-out text come from; eqnet's own text if there are none.
        space: as ``choices_of`` reads it.
        seed: of everything that is drawn.
    """

    model: str
    method: str = "gptq"
    text: tuple[str, ...] = ()
    space: str = "language-model"
    seed: int = 0


class LanguageRun:
    """A run's folder, opened for this process alone; made if need be.

    Args:
        folder: of the run.
        plan: what the run is of.
        report: told (stage, done, total).

    Raises:
        RunError: the folder holds a run of something else, is in use, or cannot be written.
        InputError: the model, the text or the space cannot be used.

    Attributes:
        folder, plan: as given; paths of the plan are absolute.
        source: of the model.
        space: of the model, before a target or anything else narrows it.
        calibration: token ids, int64 [N, T].
        held_out: text that the codes were not fitted to.
    """

    def __init__(self, folder: Path, plan: Plan, report: Report | None = None) -> None:
        choices = choices_of(plan.space)
        self.folder, self._report = folder, report
        self.plan = Plan(
            model=str(Path(plan.model).absolute()),
            method=plan.method,
            text=tuple(str(Path(file).absolute()) for file in plan.text),
            space=str(choices),
            seed=plan.seed,
        )
        # Training the codes of each network that is measured would take days.
        self.method: Method = codes_of(plan.method)
        self.source = open_source(plan.model)
        self.space: ElasticSpace = space_of(self.source, choices)
        kept = KeptTensors(folder / TEXT, text_identity(self.source, self.plan.text, self.plan.seed))
        known = kept.read()
        texts = (
            Texts(**known)
            if known is not None
            else texts_of(self.source, self.plan.text, self.plan.seed, SEARCH_WINDOWS)
        )
        self.calibration, self.held_out = texts.calibration, Windows.split(texts.held_out)
        self.identity = (
            f"{self.source.fingerprint()}:{digest(self.calibration)}:{self.method.name}:{self.space.scale_bits}"
        )
        self._lock = RunLock(folder)
        try:
            self._keep_manifest()
            if known is None:
                kept.write(vars(texts))
        except BaseException:
            self.close()
            raise

    @classmethod
    def reopen(cls, folder: Path, report: Report | None = None) -> LanguageRun:
        """Opens the run that ``folder`` holds; raises RunError if it holds none of a language model."""
        path = folder / MANIFEST
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            plan = Plan(found["model"], found["method"], tuple(found["text"]), found["space"], found["seed"])
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise RunError(f"{folder}: holds no run of a language model ({e!r}); see eqnet search --model") from e
        return cls(folder, plan, report)

    def close(self) -> None:
        """Lets other processes open the run."""
        self._lock.release()

    def __enter__(self) -> LanguageRun:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def search(self, budgets: Sequence[Budget], settings: Settings, target: Target | None = None) -> ReportData:
        """Finds the subnet of least divergence from the model in floating point that meets every budget.

        Raises:
            BudgetError: no subnet meets the budgets, which is found out before any work; or one bounds what means
                nothing for a language model.
            InputError: the target runs nothing of some layer.
        """
        check_budgets(budgets)
        runs = _part_of(self.space, target) if target is not None else self.space
        Problem.of(self.space, budgets, target)
        with ExitStack() as stack:
            final = {
                part: stack.enter_context(Store.open(self.folder / name, f"{self.identity}:{digest(ids)}"))
                for (part, name), ids in zip(
                    _FINAL.items(), (self.held_out.validation, self.held_out.test), strict=True
                )
            }
            subject = LanguageSubject(
                self.source.name,
                self.identity,
                pruned(runs, self._expected()),
                self.space,
                self._shared,
                self._bank,
                Workbench(self._unfilled, self._weights, self._bank, self._weight),
                self.held_out,
                final,
                KeptTensors(self.folder / HIDDEN, f"{self.identity}:{digest(self.held_out.validation)}"),
                self._report,
            )
            stack.callback(subject.close)
            store = self.folder / "measurements.sqlite"
            return search_subject(subject, budgets, settings, store=store, target=target, report=self._report)

    def packed(
        self,
        subnet: Mapping[str, LayerFormat],
        found: SearchResult | None = None,
        method: str | None = None,
        text: Sequence[str | Path] = (),
    ) -> PackedModel:
        """The model in the formats of ``subnet``, on the codes that a search measures; some methods train them first.

        Args:
            subnet: of the space before a target or anything else narrowed it.
            found: by a search, if ``subnet`` is what it found; its figures are kept with the model.
            method: instead of the plan's; one that trains the codes which the run measures.
            text: files to train them on, instead of the plan's.

        Raises:
            InputError: the subnet is of another model, the method makes codes of its own, or there is text, and the
                method does not train.
            ModelError: a layer cannot be quantized.
        """
        method = method or self.plan.method
        codes = codes_of(method)
        if codes is not self.method:
            raise InputError(
                f"--method {method}: goes with codes of {codes.name}, and the search was on those of "
                f"{self.method.name}; leave it out, or search with --method {method}"
            )
        if text and method not in TRAINED_FROM:
            raise InputError(
                f"--text: codes of --method {method} are those of the search, on its text; leave it out, or train them "
                f"with --method {' or '.join(TRAINED_FROM)}"
            )
        recipe = replace(self.recipe(found), method=method)
        if text:
            recipe = replace(recipe, text=(*recipe.text, *(Path(file).name for file in text)))
        check_subnet(self.source, subnet)
        if method == DISTILL:
            packed = quantize(
                self.source,
                subnet,
                method=DISTILL,
                ids=self._read(text, SEARCH_WINDOWS) if text else self.calibration,
                scale=scale_dtype(self.space),
                report=self._report,
            )
        else:
            weights = self._codes(subnet)
            if method == QAT:
                training = QuantizationAwareTraining()
                ids = self._read(text or self.plan.text, training.windows)
                weights = training.train(self.source, weights, ids, self._report)
            packed = assembled(self.source, weights)
        if method in TRAINED_FROM:
            recipe = replace(recipe, perplexity=self._perplexities(packed), divergence=None)
        packed.record = replace(packed.record, metadata=recipe.to_json())
        return packed

    def _codes(self, subnet: Mapping[str, LayerFormat]) -> dict[str, PackedTensor]:
        """Those that a search measures, by path."""
        weights: dict[str, PackedTensor] = {}
        for done, tied in enumerate(self.space.sets):
            if self._report is not None:
                self._report("Packing", done, len(self.space.sets))
            for layers in self._shared[tied.name]:
                weight = self._bank.entry(layers, subnet[layers.name].weight).weight
                weights |= dict.fromkeys(layers.paths, weight)
        if self._report is not None:
            self._report("Packing", len(self.space.sets), len(self.space.sets))
        return {path: weights[path] for path in subnet}

    def _read(self, text: Sequence[str | Path], windows: int) -> Tensor:
        """At most so many windows of files, or of eqnet's own text, to fit codes to."""
        return texts_of(self.source, text, self.plan.seed, windows).calibration

    def recipe(self, found: SearchResult | None = None) -> Recipe:
        """How models of this run are made; with the figures of what a search found."""
        text = tuple(Path(file).name for file in self.plan.text)
        recipe = Recipe(self.source.name, self.plan.method, text=text)
        if found is None:
            return recipe
        scores = found.scores
        return replace(
            recipe,
            budgets=tuple(budget.text for budget in found.budget),
            perplexity=_known(validation=scores.validation, test=scores.test),
            float_perplexity=_known(validation=scores.fp32_validation, test=scores.fp32_test),
            divergence=found.quality.measured,
        )

    def _perplexities(self, packed: PackedModel) -> dict[str, float]:
        parts = {"validation": self.held_out.validation, "test": self.held_out.test}
        return {part: perplexity(packed, ids, report=self._report).value for part, ids in parts.items()}

    @cached_property
    def _shared(self) -> dict[str, tuple[Shared, ...]]:
        return shared_weights(self.source.skeleton(), self.space)

    @property
    def _weights(self) -> list[Shared]:
        return [layers for tied in self.space.sets for layers in self._shared[tied.name]]

    def _weight(self, path: str) -> Tensor:
        return self.source.tensor(f"{path}.weight")

    def _unfilled(self) -> Any:
        """The model without the weights that have formats."""
        return self.source.load(without={f"{path}.weight" for layers in self._weights for path in layers.paths})

    @cached_property
    def _sensitivity(self) -> Sensitivity:
        # Of the model as it was given, whatever the one that is measured holds by now.
        return sensitivity_of(
            self.source.load(), self.calibration, backward=_BACKWARD, seed=self.plan.seed, report=self._report
        )

    @cached_property
    def _bank(self) -> Bank:
        folder, scale = self.folder / CODES, scale_dtype(self.space)
        return Bank(self.method, scale, self._weight, lambda: self._sensitivity, folder, self.plan.seed)

    def _expected(self) -> dict[str, dict[str, float]]:
        """What is expected of each format of each tied set; kept in the folder."""
        path = self.folder / SENSITIVITY
        if path.exists():
            try:
                found: dict[str, dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
                assert all(str(c.weight) in found[tied.name] for tied in self.space.sets for c in tied.choices)
                return found
            except (OSError, ValueError, KeyError, TypeError, AssertionError) as e:
                raise RunError(f"{path}: cannot be read ({e!r}); remove it, or start over with --fresh") from e
        expected = expected_divergence(
            self.space,
            self._shared,
            self.method,
            self._weight,
            self._sensitivity,
            scale=scale_dtype(self.space),
            seed=self.plan.seed,
            report=self._report,
        )
        write_atomically(path, json.dumps(expected, indent=1) + "\n")
        return expected

    def _keep_manifest(self) -> None:
        """Writes the plan, or raises RunError if the folder holds another one."""
        path = self.folder / MANIFEST
        if (self.folder / MANIFEST_OF_TASKS).exists():
            raise RunError(f"{self.folder}: holds the run of a task; choose another folder with --out")
        mine = {"version": 1, "kind": "language-model", **asdict(self.plan), "identity": self.identity}
        mine["text"] = list(self.plan.text)
        remove_unfinished(self.folder, KEPT)
        if not path.exists():
            write_atomically(path, json.dumps(mine, indent=2) + "\n")
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            different = [key for key, value in mine.items() if found.get(key) != value and key != "model"]
        except (OSError, ValueError, AttributeError) as e:
            raise RunError(f"{path}: cannot be read as a plan ({e}); start over with --fresh") from e
        if different:
            key = different[0]
            said = (
                "another model, or other text" if key == "identity" else f"{key} {found.get(key)!r}, not {mine[key]!r}"
            )
            raise RunError(
                f"{self.folder}: holds a run with {said}; choose another folder with --out, or start over with --fresh"
            )


def is_language_run(folder: Path) -> bool:
    """Whether a folder holds the run of a language model."""
    return (folder / MANIFEST).is_file()


def _known(**scores: float | None) -> dict[str, float]:
    return {part: score for part, score in scores.items() if score is not None}


def _part_of(space: ElasticSpace, target: Target) -> ElasticSpace:
    """What runs on the target."""
    try:
        return target.restrict(space)
    except InputError as e:
        if not target.space or "a=float" in target.space:
            raise
        raise InputError(
            f"{target.name} quantizes inputs, too, and of language models weights alone are quantized; take a target "
            "that runs these, which 'eqnet targets' shows, such as gguf"
        ) from e
