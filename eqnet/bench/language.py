"""How fast a language model reads and writes, and in how much memory: in a process of its own.

python -m eqnet.bench.language MODEL float|int8 THREADS PROMPT TOKENS
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from eqnet.bench.fresh import in_new_process, peak_memory

TIMEOUT = 1800
"""Seconds that the process may take."""

_ROUNDS = 3
"""Texts, of which the fastest counts: others on the machine only ever add."""


@dataclass(frozen=True)
class Speed:
    """What a process found.

    Attributes:
        threads: that were used.
        prefill: tokens of a prompt that are read in a second.
        decode: tokens of an answer that are written in a second.
        loading: seconds from the files to what can be asked.
        first: seconds from the first prompt, of that many tokens, to the first token of its answer.
        peak: bytes of memory in use at most; 0 where the system does not tell.
        files: bytes of the model's files.
        runs: what ran it.
    """

    threads: int
    prefill: float
    decode: float
    loading: float
    first: float
    peak: int
    files: int
    runs: str


def speed(path: Path, compute: str, threads: int, prompt: int, tokens: int) -> Speed:
    """Starts a process that times a model.

    Args:
        path: of the model.
        compute: see ``PackedModel.compute``.
        threads: to use.
        prompt: tokens of it.
        tokens: of the answer.

    Raises:
        EqnetError: the process failed; the message has its last words.
    """
    arguments = [str(path), compute, *(str(number) for number in (threads, prompt, tokens))]
    return Speed(**in_new_process(path, "eqnet.bench.language", arguments, TIMEOUT))


def _main(path: Path, compute: str, threads: int, prompt: int, tokens: int) -> Speed:
    import numpy as np

    from eqnet.errors import InputError
    from eqnet.lm.deployed import open_model

    begin = time.perf_counter()
    opened = open_model(path, compute=compute, threads=threads)
    engine, room = opened.engine, prompt + tokens
    if room > engine.context:
        raise InputError(f"a prompt of {prompt} and an answer of {tokens} tokens do not fit into {engine.context}")
    ids = np.random.default_rng(0).integers(engine.vocabulary, size=prompt)
    loaded = time.perf_counter()
    reading, writing = [], []
    for _ in range(_ROUNDS):
        session = engine.session(room)
        start = time.perf_counter()
        token = int(session.feed(ids).argmax())
        read = time.perf_counter()
        for _ in range(tokens):
            token = int(session.feed([token]).argmax())
        reading.append(read - start)
        writing.append(time.perf_counter() - read)
    files = [path] if path.is_file() else [file for file in path.iterdir() if file.suffix in (".safetensors", ".json")]
    return Speed(
        threads=threads,
        prefill=prompt / min(reading),
        decode=tokens / min(writing),
        loading=loaded - begin,
        first=reading[0],
        peak=peak_memory() or 0,
        files=sum(file.stat().st_size for file in files),
        runs=str(engine),
    )


if __name__ == "__main__":
    model, how, *numbers = sys.argv[1:]
    print(json.dumps(asdict(_main(Path(model), how, *map(int, numbers)))))
