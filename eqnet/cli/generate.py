"""``eqnet generate``: what a language model answers, as it is written."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eqnet.cli.console import print_json
from eqnet.cli.speaker import Speaker, speaking
from eqnet.errors import EqnetError, InputError
from eqnet.native import COMPUTE

if TYPE_CHECKING:
    from eqnet.lm.answering import Answer, Asked
    from eqnet.lm.deployed import Deployed

_INTERRUPTED = 130
"""Exit status after Ctrl-C, 128 + SIGINT."""


@click.command()
@click.argument("model", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("prompt", required=False)
@click.option("--chat", is_flag=True, help="Converse, in the model's chat template: a line in, an answer out.")
@click.option("--system", metavar="TEXT", help="With --chat: what the model is told before all.")
@click.option(
    "--max-tokens", "most", type=click.IntRange(min=1), default=256, show_default=True, help="Of an answer, at most."
)
@click.option(
    "--temperature", type=float, default=0.0, show_default=True, help="Divides the logits; 0 takes the likeliest token."
)
@click.option("--top-p", type=float, default=1.0, show_default=True, help="Draw among the likeliest of this share.")
@click.option("--top-k", type=int, default=0, show_default=True, help="Draw among so many of the likeliest; 0: all.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of everything that is drawn."
)
@click.option("--stop", "phrases", multiple=True, metavar="TEXT", help="End before this text. Repeat it for several.")
@click.option("--ids", is_flag=True, help="Take and print ids of tokens, such as '1 15 9', instead of text.")
@click.option("--context", type=click.IntRange(min=2), help="Most tokens, prompt included.  [default: the model's]")
@click.option(
    "--compute",
    type=click.Choice(list(COMPUTE)),
    default="float",
    show_default=True,
    help="How packed layers multiply; int8 is faster and less exact.",
)
@click.option("--threads", type=click.IntRange(1, 1 << 10), help="Threads to use.  [default: as many as PyTorch]")
@click.option("--verbose", is_flag=True, help="Say on standard error what runs, and how fast.")
@click.option("--json", "as_json", is_flag=True, help="Print answer and figures as JSON, once it is complete.")
def generate(
    model: Path,
    prompt: str | None,
    chat: bool,
    system: str | None,
    most: int,
    temperature: float,
    top_p: float,
    top_k: int,
    seed: int,
    phrases: tuple[str, ...],
    ids: bool,
    context: int | None,
    compute: str,
    threads: int | None,
    verbose: bool,
    as_json: bool,
) -> int | None:
    """Let a language model go on from a prompt.

    DIR is what eqnet export wrote of a language model; to compare, it may be one in floating point, too: a folder of
    Hugging Face's transformers, or a .gguf file. Without PROMPT, or for -, the prompt is read from standard input.
    The answer appears as it is made. Under torchrun the packed weights are split among the processes.
    """
    from eqnet.lm.answering import Asked
    from eqnet.lm.sampling import Sampling

    _check_together(chat, ids, prompt, system, as_json)
    asked = Asked(Sampling(temperature, top_k, top_p, seed), phrases=phrases, most=most)
    with speaking() as speaker:
        given = None if chat else speaker.shared(_prompt(prompt) if speaker.speaks else None)
        opened = speaker.open(model, compute, threads, context)
        asked = Asked(asked.sampling, opened.stop, phrases, most)
        if verbose and speaker.speaks:
            click.echo(f"Runs as {opened.engine}.", err=True)
        out = _Output(speaker.speaks, as_json, verbose)
        if chat:
            return _converse(opened, asked, system, speaker, out)
        assert given is not None
        return _complete(opened, asked, given, ids, out)


def _check_together(chat: bool, ids: bool, prompt: str | None, system: str | None, as_json: bool) -> None:
    """Raises UsageError for options that exclude each other."""
    if chat and (ids or prompt is not None or as_json):
        raise click.UsageError("--chat reads its lines from standard input; leave out PROMPT, --ids and --json")
    if system is not None and not chat:
        raise click.UsageError("--system goes with --chat")


def _prompt(given: str | None) -> str:
    """The prompt; from standard input, without the line's end, if it is not given."""
    if given is not None and given != "-":
        return given
    if given is None and sys.stdin.isatty():
        raise click.UsageError("give a PROMPT, or - to read it from standard input, or --chat")
    data = sys.stdin.buffer.read()
    try:
        return data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as e:
        raise InputError(f"standard input: is no text in UTF-8 ({e}); give text") from e


@dataclass(frozen=True)
class _Output:
    """Where answers go.

    Attributes:
        speaks: whether this process prints.
        as_json: one document at the end, instead of text as it comes.
        verbose: whether speeds are told.
    """

    speaks: bool
    as_json: bool
    verbose: bool

    def print(self, answer: Answer) -> tuple[str, bool]:
        """Prints an answer; returns its text, and whether Ctrl-C cut it."""
        pieces: list[str] = []
        cut = False
        try:
            for piece in answer:
                pieces.append(piece)
                if self.speaks and not self.as_json and piece:
                    click.echo(piece, nl=False)
        except KeyboardInterrupt:
            cut = True
        text = "".join(pieces)
        if self.speaks and not self.as_json:
            click.echo()
        if self.speaks and self.verbose:
            click.echo(_speed(answer), err=True)
        return text, cut


def _complete(opened: Deployed, asked: Asked, prompt: str, as_ids: bool, out: _Output) -> int | None:
    from eqnet.lm.answering import Answer

    tokenizer = None if as_ids else opened.tokenizer
    if as_ids:
        ids = parse_ids(prompt)
    elif tokenizer is None:
        raise InputError(f"{opened.path}: has no tokenizer; give the prompt as ids of tokens, with --ids")
    else:
        ids = tokenizer(prompt).input_ids
    answer = Answer(opened.engine, ids, tokenizer, asked)
    text, cut = out.print(answer)
    if out.as_json and out.speaks:
        print_json(_figures(answer, str(opened.engine), None if as_ids else text))
    return _INTERRUPTED if cut else None


def parse_ids(text: str) -> list[int]:
    """Whole numbers with spaces or commas between them; raises InputError if there is anything else."""
    parts = text.replace(",", " ").split()
    if not parts or not all(part.isascii() and part.isdecimal() for part in parts):
        raise InputError(f"{text!r}: expected ids of tokens, with spaces or commas between them, such as '1 15 9'")
    return [int(part) for part in parts]


def _converse(opened: Deployed, asked: Asked, system: str | None, speaker: Speaker, out: _Output) -> int | None:
    from eqnet.lm.chat import Conversation

    conversation = Conversation(opened.engine, opened.tokenizer, asked, system)
    for line in speaker.lines():
        forgotten = conversation.forgotten
        try:
            answer = conversation.ask(line)
        except EqnetError as e:
            if out.speaks:
                click.echo(f"Error: {e}", err=True)
            continue
        if out.speaks and conversation.forgotten > forgotten:
            click.echo("(The context is full; the oldest of what was said is forgotten.)", err=True)
        text, cut = out.print(answer)
        conversation.heard(answer, text)
        if cut and not speaker.resumes:
            return _INTERRUPTED
    return None


def _speed(answer: Answer) -> str:
    parts = [f"{len(answer.prompt)} tokens in, {len(answer.ids)} out ({answer.finish.value})"]
    if answer.first is not None:
        parts.append(f"first after {1000 * answer.first:.0f} ms")
    if answer.tokens_per_second is not None:
        parts.append(f"then {answer.tokens_per_second:,.1f} tokens/s")
    return "; ".join(parts)


def _figures(answer: Answer, engine: str, text: str | None) -> dict[str, Any]:
    return {
        "text": text,
        "ids": answer.ids,
        "prompt_ids": answer.prompt,
        "finish": answer.finish.value,
        "first_token_seconds": answer.first,
        "seconds": answer.seconds,
        "tokens_per_second": answer.tokens_per_second,
        "runs": engine,
    }
