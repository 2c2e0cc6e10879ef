"""What ``eqnet eval`` and ``eqnet bench`` say of language models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from eqnet.cli.console import megabytes, print_json, print_table, progress
from eqnet.cli.language import is_language_model

TASK = "causal-lm"
"""What ``--task`` calls them."""

LENGTH = 512
"""Tokens of a window of text, unless the model's context is shorter."""


def is_language(path: Path, task: str | None) -> bool:
    """Whether ``path`` is, or is said to be, a language model, packed or in floating point."""
    from eqnet.lm.deployed import is_packed, is_packed_language_model

    if task == TASK:
        return True
    return task is None and (is_packed_language_model(path) or (not is_packed(path) and is_language_model(path)))


def evaluate(
    path: Path, text: Sequence[Path], reference: Path | None, count: int | None, compute: str, as_json: bool
) -> None:
    """Perplexity on text, and with a reference the divergence from that."""
    from eqnet.lm.deployed import open_model
    from eqnet.lm.evaluation import counted_bytes, divergence, perplexity
    from eqnet.lm.text import windows

    with progress() as report:
        opened = open_model(path, compute=compute)
        other = open_model(reference) if reference is not None else None
        ids = windows(
            opened.tokenizer,
            text or None,
            length=min(LENGTH, opened.engine.context),
            part="all" if text else "held-out",
            count=count,
            vocabulary=opened.engine.vocabulary,
        )
        nbytes = counted_bytes(opened.tokenizer, ids) if opened.tokenizer is not None else None
        found = perplexity(opened.engine, ids, nbytes=nbytes, report=report)
        apart = divergence(other.engine, opened.engine, ids, report=report) if other is not None else None
    figures = {
        "perplexity": found.value,
        "bits_per_byte": found.bits_per_byte,
        "tokens": found.tokens,
        "divergence": apart.nats if apart is not None else None,
        "agreement": apart.agreement if apart is not None else None,
        "runs": str(opened.engine),
    }
    if as_json:
        print_json(figures)
        return
    rows = [["perplexity", f"{found.value:.4f}"]]
    if found.bits_per_byte is not None:
        rows.append(["bits per byte", f"{found.bits_per_byte:.4f}"])
    if apart is not None:
        rows.append([f"divergence from {reference}", f"{apart.nats:.5f} nats a token"])
        rows.append(["next tokens alike", f"{100 * apart.agreement:.2f} %"])
    named = ", ".join(file.name for file in text) or "the held-out part of eqnet's own text"
    rows += [["tokens", f"{found.tokens:,} of {named}"], ["runs as", str(opened.engine)]]
    print_table(str(path), ["", "value"], rows)


def bench(path: Path, threads: Sequence[int], compute: str, prompt: int, tokens: int, as_json: bool) -> None:
    """Tokens per second, of a prompt and of an answer, each number of threads in a process of its own."""
    from eqnet.bench.language import Speed, speed

    speeds: list[Speed] = []
    with progress(quiet=as_json) as report:
        for done, count in enumerate(threads):
            report("Generating", done, len(threads))
            speeds.append(speed(path, compute, count, prompt, tokens))
        report("Generating", len(threads), len(threads))
    if as_json:
        print_json({"runs": speeds[0].runs, "speeds": [asdict(one) for one in speeds]})
        return
    click.echo(f"Runs as {speeds[0].runs}.")
    rows = [
        [
            f"{one.threads}",
            f"{one.prefill:,.1f}",
            f"{one.decode:,.1f}",
            f"{one.loading:.2f}",
            f"{1000 * one.first:,.1f}",
            megabytes(one.peak),
            megabytes(one.files),
        ]
        for one in speeds
    ]
    columns = [
        "threads",
        f"prompt of {prompt}, tokens/s",
        f"answer of {tokens}, tokens/s",
        "to load s",
        "first token ms",
    ]
    print_table(str(path), [*columns, "peak memory", "files"], rows)
