"""What ``eqnet search`` and ``eqnet export`` do with language models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from eqnet.cli.console import Report
from eqnet.cli.subnets import check, result_of
from eqnet.errors import InputError
from eqnet.export.legality import require_legal
from eqnet.lm.qat import QuantizationAwareTraining
from eqnet.lm.quantizing import NAMES, QAT
from eqnet.run import clear
from eqnet.search.budget import Budget
from eqnet.search.result import ReportData
from eqnet.space import ElasticSpace
from eqnet.subnet import Subnet
from eqnet.target import Target

if TYPE_CHECKING:
    from eqnet.lm.source import Source
    from eqnet.packed.model import PackedModel

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_METHOD = "gptq"

SAMPLES = 120
"""Subnets of a language model that are measured before the first prediction."""


@dataclass(frozen=True)
class Made:
    """A packed language model, and what it is of.

    Attributes:
        packed: the model.
        source: of the model in floating point.
        space: that the subnet is of.
        subnet: its formats.
    """

    packed: PackedModel
    source: Source
    space: ElasticSpace
    subnet: Subnet


def method_option(when: str, default: str = DEFAULT_METHOD) -> Callable[[F], F]:
    """``--method``, None if it is not given; ``when`` says of what, and ``default`` which one that is then."""
    return click.option(
        "--method",
        type=click.Choice(NAMES),
        help=f"{when}: how weights become codes.  [default: {default}]",
    )


def text_option(when: str, what_for: str = "", default: str = "eqnet's own") -> Callable[[F], F]:
    """``--text FILE``, any number of them."""
    return click.option(
        "--text",
        type=click.Path(path_type=Path),
        multiple=True,
        metavar="FILE",
        help=f"{when}: text, or ids as .npy{what_for}.  [default: {default}]",
    )


def refuse(names: Sequence[str], why: str) -> None:
    """Raises UsageError if one of these options was given on the command line."""
    context = click.get_current_context()
    for parameter in context.command.params:
        option = max(parameter.opts, key=len)
        given = parameter.name is not None and context.get_parameter_source(parameter.name) != ParameterSource.DEFAULT
        if given and option.removeprefix("--") in names:
            raise click.UsageError(f"{option}: {why}")


def is_language_model(path: Path) -> bool:
    """Whether ``path`` looks like a language model in floating point: a .gguf file, or a folder with weights."""
    return path.suffix == ".gguf" or ((path / "config.json").is_file() and not (path / "result.json").exists())


def search_model(
    model: Path,
    method: str | None,
    text: Sequence[Path],
    budgets: Sequence[Budget],
    target: Target | None,
    samples: int | None,
    pareto: int,
    options: Mapping[str, Any],
    report: Report,
) -> tuple[Path, ReportData]:
    """Searches a language model; the folder of the run, and what was found."""
    from eqnet.lm.run import KEPT, LanguageRun, Plan
    from eqnet.lm.search import check_budgets, settings_of
    from eqnet.lm.space import PRESET

    check_budgets(budgets)
    folder = options["out"] or Path("runs") / (model.resolve().stem if model.is_file() else model.resolve().name)
    if options["fresh"]:
        clear(folder, KEPT)
    space = PRESET if options["space"] == "default" else options["space"]
    plan = Plan(str(model), method or DEFAULT_METHOD, tuple(map(str, text)), space, options["seed"])
    with LanguageRun(folder, plan, report) as run:
        found = run.search(budgets, settings_of(samples or SAMPLES, pareto, options["seed"]), target)
    return folder, found


@dataclass(frozen=True)
class Wanted:
    """What the options say of the network that is to be packed.

    Attributes:
        subnet: file of its formats.
        uniform: width of all layers instead.
        target: that has to run it.
        method: that makes the codes.
        text: files to fit codes to.
    """

    subnet: Path | None
    uniform: int | None
    target: Target | None
    method: str | None
    text: Sequence[Path]


def packed_run(folder: Path, wanted: Wanted, report: Report) -> Made:
    """The network of a run that the options name, by the method of the search if none is given."""
    from eqnet.lm.run import LanguageRun

    given = check(folder, wanted.subnet, wanted.uniform)
    with LanguageRun.reopen(folder, report) as run:
        formats = _formats(run.space, given, wanted.uniform, wanted.subnet or folder)
        if wanted.target is not None:
            require_legal(wanted.target, run.space, formats, folder)
        found = result_of(folder, formats)
        return Made(run.packed(formats, found, wanted.method, wanted.text), run.source, run.space, formats)


def packed_model(path: Path, wanted: Wanted, report: Report) -> Made:
    """A model in floating point, packed without a search in the formats that the options name."""
    from eqnet.lm.quantizing import quantize
    from eqnet.lm.recipe import Recipe
    from eqnet.lm.source import open_source
    from eqnet.lm.space import PRESET, choices_of, space_of
    from eqnet.lm.texts import texts_of

    if wanted.subnet is None and wanted.uniform is None:
        raise InputError(f"{path}: is a model in floating point; give --uniform or --subnet, or search it first")
    method, text = wanted.method or DEFAULT_METHOD, wanted.text
    given = check(path, wanted.subnet, wanted.uniform)
    source = open_source(path)
    space = space_of(source, choices_of(PRESET))
    formats = _formats(space, given, wanted.uniform, wanted.subnet)
    if wanted.target is not None:
        require_legal(wanted.target, space, formats, path)
    ids = texts_of(source, text).calibration if method != "rtn" else None
    windows = QuantizationAwareTraining().windows
    more = texts_of(source, text, calibration=windows).calibration if method == QAT else None
    recipe = Recipe(source.name, method, text=tuple(file.name for file in text)).to_json()
    packed = quantize(source, formats, method=method, ids=ids, trained_on=more, report=report, metadata=recipe)
    return Made(packed, source, space, formats)


def _formats(space: ElasticSpace, given: Subnet | None, uniform: int | None, path: Path | None) -> Subnet:
    from eqnet.lm.search import uniform_subnet

    if given is None:
        assert uniform is not None
        return uniform_subnet(space, uniform)
    try:
        space.genes(given)
    except InputError as e:
        raise InputError(f"{path}: {e}") from e
    return given
