"""Generates with one language model and says how much memory that took; ``decoding.py`` starts it as a fresh process.

It imports no more than generating takes, and prints bytes as JSON: what the process held before it opened the model,
and its peak, which Linux tells.

    python benchmarks/generating.py PACKED_FOLDER_OR_GGUF_FILE --threads 1
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

PROMPT, TOKENS, CONTEXT = range(1, 17), 128, 512


def packed(folder: Path, threads: int, compute: str) -> int:
    """Generates with a packed model; returns the bytes that the process held before."""
    from eqnet.lm.deployed import open_model
    from eqnet.lm.generation import generate

    before = status("VmRSS")
    engine = open_model(folder, compute=compute, threads=threads, context=CONTEXT).engine
    # A session of the whole context, so that all of its keys and values can be held.
    assert len(list(generate(engine, PROMPT, most=TOKENS, session=engine.session(CONTEXT)))) == TOKENS
    return before


def file(path: Path, threads: int) -> int:
    """The same with llama.cpp."""
    from llamacpp import opened

    before = status("VmRSS")
    with opened(path, CONTEXT, threads, exact=False) as peer:
        token = int(peer.feed(PROMPT).argmax())
        for _ in range(TOKENS - 1):
            token = int(peer.feed([token]).argmax())
    return before


def status(name: str) -> int:
    """Bytes, of what Linux says of this process."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Generates, and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a packed model, or a .gguf file")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--compute", default="int8", help="how a packed model multiplies")
    options = parser.parse_args()
    if options.model.is_dir():
        before = packed(options.model, options.threads, options.compute)
    else:
        before = file(options.model, options.threads)
    print(json.dumps({"before": before, "peak": status("VmHWM")}))


if __name__ == "__main__":
    main()
