"""One packed language model in every engine that runs it: how far their logits are apart, and whether they agree.

The model is rounded to one format that all of them have. Each engine is fed the same prompt, and goes on greedily from
it, token by token; what it is compared with is transformers on the dequantized weights, in float32.

    python benchmarks/language_engines.py --peers folder-with-llama_cpp
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from common import parser, show
from language_subjects import smollm2
from llamacpp import opened

from eqnet.export.gguf import write_gguf
from eqnet.export.onnx.causal import write_causal
from eqnet.formats import Format, LayerFormat
from eqnet.lm.deployed import open_model
from eqnet.lm.engine import TransformersEngine
from eqnet.lm.folder import save
from eqnet.lm.generation import Engine
from eqnet.lm.quantizing import quantize
from eqnet.lm.source import open_source
from eqnet.lm.space import choices_of, space_of
from eqnet.lm.text import windows
from eqnet.packed.dequantizing import dequantized

Feed = Callable[[list[int]], np.ndarray]
"""Appends tokens to a text; the logits of what follows the last of them."""


def said(feed: Feed, prompt: list[int], count: int) -> tuple[np.ndarray, list[int]]:
    """Logits behind the prompt, and the tokens that follow it greedily."""
    logits = first = np.array(feed(prompt))
    tokens = [int(logits.argmax())]
    while len(tokens) < count:
        tokens.append(int(feed(tokens[-1:]).argmax()))
    return first, tokens


def of_engine(engine: Engine, room: int) -> Feed:
    """One of eqnet's engines, or transformers in one."""
    session = engine.session(room)
    return lambda ids: session.feed(ids)


def of_onnx(path: Path) -> Feed:
    """ONNX Runtime, which is given back the keys and values that it gave."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    kept = [value for value in session.get_inputs() if value.name.startswith("past_key_values.")]
    past = {value.name: np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32) for value in kept}
    seen = 0

    def feed(ids: list[int]) -> np.ndarray:
        nonlocal seen, past
        places = np.arange(seen, seen + len(ids))[None]
        seen += len(ids)
        given = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, seen), np.int64), "position_ids": places}
        logits, *made = session.run(None, {**given, **past})
        past = dict(zip(past, made, strict=True))
        last: np.ndarray = logits[0, -1]
        return last

    return feed


def of_processes(count: int, folder: Path, prompt: list[int], tokens: int) -> tuple[np.ndarray, list[int]]:
    """The model split among several processes."""
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "said.npz"
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(count), __file__]
        given = ["--part-of", str(folder), "--ids", " ".join(map(str, prompt)), "--tokens", str(tokens)]
        done = subprocess.run([*command, *given, "--out", str(out)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{count} processes failed:\n{done.stderr}")
        found = np.load(out)
        return found["logits"], found["tokens"].tolist()


def degree(config: Any) -> int:
    """The fewest processes among which the heads can be divided."""
    return next(n for n in range(2, config.num_key_value_heads + 1) if config.num_key_value_heads % n == 0)


def run_part(options: argparse.Namespace) -> None:
    """What each of the processes does."""
    from eqnet.lm.parallel.group import joined
    from eqnet.lm.parallel.opening import open_part

    prompt = [int(token) for token in options.ids.split()]
    with joined() as group:
        opened_part = open_part(options.part_of, group)
        logits, tokens = said(of_engine(opened_part.engine, len(prompt) + options.tokens), prompt, options.tokens)
        if group.rank == 0:
            np.savez(options.out, logits=logits, tokens=tokens)


def rows(model: Path, fmt: str, prompt_length: int, count: int) -> list[dict[str, Any]]:
    """Each engine beside the reference."""
    from transformers import AutoModelForCausalLM

    source = open_source(model)
    ids = windows(source.tokenizer(), None, length=prompt_length, part="held-out", count=1)[0].tolist()
    room = len(ids) + count
    subnet = space_of(source, choices_of("language-model")).nearest(LayerFormat(Format.parse(fmt), None))
    packed = quantize(source, subnet, method="rtn")
    expected, tokens = said(of_engine(TransformersEngine(dequantized(packed)), room), ids, count)
    found: list[dict[str, Any]] = []

    def add(name: str, what: tuple[np.ndarray, list[int]]) -> None:
        logits, its = what
        same = next((i for i, (a, b) in enumerate(zip(its, tokens, strict=True)) if a != b), count)
        error = float(abs(logits - expected).max() / abs(expected).max())
        found.append({"engine": name, "largest error / largest logit": error, "same tokens": f"{same} of {count}"})

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "packed"
        save(packed, source, folder)
        engine = open_model(folder, context=room).engine
        add(str(engine), said(of_engine(engine, room), ids, count))
        loaded = AutoModelForCausalLM.from_pretrained(folder)
        add("transformers, from_pretrained", said(of_engine(TransformersEngine(loaded), room), ids, count))
        parts = degree(source.config)
        add(f"{parts} processes", of_processes(parts, folder, ids, count))
        file = Path(temporary) / "model.gguf"
        write_gguf(packed, file, source=source)
        with opened(file, room) as peer:
            add("llama.cpp, which rounds what it multiplies to 8 bits", said(peer.feed, ids, count))
        file = Path(temporary) / "model.onnx"
        write_causal(packed, file)
        add("ONNX Runtime", said(of_onnx(file), ids, count))
    return found


def main() -> None:
    """Prints the table."""
    options = parser(__doc__)
    options.add_argument("--model", type=Path, help="in floating point: a folder or .gguf file  [default: SmolLM2]")
    options.add_argument("--format", default="int4:group32", help="of all weights")
    options.add_argument("--prompt", type=int, default=64, help="tokens of it")
    options.add_argument("--tokens", type=int, default=64, help="that follow")
    options.add_argument("--peers", type=Path, help="folder that has packages of peers")
    for hidden in ("--part-of", "--out"):
        options.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    options.add_argument("--ids", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.part_of is not None:
        run_part(given)
        return
    if given.peers is not None:
        sys.path.append(str(given.peers))
    show(rows(given.model or smollm2(), given.format, given.prompt, given.tokens), given.json)


if __name__ == "__main__":
    main()
