"""``eqnet generate``."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import eqnet as library
from eqnet.lm.answering import Answer, Asked
from eqnet.lm.deployed import open_model
from eqnet.lm.sampling import Sampling
from tests.cli.command import Command
from tests.eqnet.lm.packed_models import BYTES, save_byte_model
from tests.eqnet.packed.models import trained

COMMON = ("--threads", "1", "--max-tokens", "12")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed byte-level model; not to be written."""
    return save_byte_model(tmp_path_factory.mktemp("byte") / "packed")


def type_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Puts ``data`` on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def expected(folder: Path, prompt: str, sampling: Sampling | None = None) -> tuple[str, list[int]]:
    opened = open_model(folder)
    answer = Answer(opened.engine, list(prompt.encode()), opened.tokenizer, Asked(sampling or Sampling(), most=12))
    return "".join(answer), answer.ids


def test_the_answer_is_printed_and_nothing_else(eqnet: Command, folder: Path) -> None:
    ended = eqnet("generate", folder, "once", *COMMON)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out == expected(folder, "once")[0] + "\n"


@pytest.mark.parametrize("given", [(), ("-",)], ids=["pipe", "dash"])
def test_the_prompt_comes_from_standard_input(
    eqnet: Command, folder: Path, given: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, b"once\n")
    assert eqnet("generate", folder, *given, *COMMON).out == expected(folder, "once")[0] + "\n"


def test_a_seed_draws_the_same_again(eqnet: Command, folder: Path) -> None:
    drawn = ("--temperature", "0.9", "--top-k", "50", "--top-p", "0.9", "--seed", "3", "--json")
    found = json.loads(eqnet("generate", folder, "once", *COMMON, *drawn).out)
    text, ids = expected(folder, "once", Sampling(0.9, 50, 0.9, 3))
    assert (found["text"], found["ids"]) == (text, ids)
    assert found["finish"] == "length"
    assert found["prompt_ids"] == list(b"once")
    assert "on eqnet's own kernels" in found["runs"]
    assert 0 < found["first_token_seconds"] < found["seconds"]


_IMPORTED = """
import sys
from eqnet.cli import main
try:
    main(sys.argv[1:])
finally:
    print(*sorted({"torch", "transformers"} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [("once",), ("once", "--temperature", "0.9", "--json"), ("1 2", "--ids", "--compute", "int8"), ("--chat",)],
    ids=" ".join,
)
def test_neither_pytorch_nor_transformers_is_imported(folder: Path, arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", _IMPORTED, "generate", str(folder), *arguments, *COMMON]
    ran = subprocess.run(command, input="Hi\n", capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stderr) == (0, "\n")
    assert ran.stdout.strip()


def test_ids_go_in_and_come_out(eqnet: Command, folder: Path) -> None:
    ended = eqnet("generate", folder, "1, 2 3", "--ids", *COMMON)
    opened = open_model(folder)
    assert ended.out == " ".join(map(str, library_tokens(opened.engine))) + "\n"


def library_tokens(engine: object) -> list[int]:
    from eqnet.lm.generation import generate

    return list(generate(engine, [1, 2, 3], most=12))  # type: ignore[arg-type]


def test_speed_is_told_beside_the_answer(eqnet: Command, folder: Path) -> None:
    ended = eqnet("generate", folder, "once", *COMMON, "--verbose", "--compute", "int8", "--context", "40")
    assert "Runs as LlamaForCausalLM on eqnet's own kernels, compute=int8." in ended.err
    assert "4 tokens in, 12 out (length); first after" in ended.err
    assert "tokens/s" in ended.err


def test_a_conversation_goes_line_by_line(eqnet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, b"Hi\n\nMore\n")
    ended = eqnet("generate", folder, "--chat", "--system", "Be kind", *COMMON, "--max-tokens", "5")
    assert ended.status == 0, ended.err
    opened = open_model(folder)

    def said(text: str) -> str:
        ids = opened.tokenizer(text).input_ids
        return "".join(Answer(opened.engine, ids, opened.tokenizer, Asked(most=5)))

    begin = "<turn>system:Be kind</s><turn>user:Hi</s><turn>assistant:"
    first = said(begin)
    assert ended.out == first + "\n" + said(f"{begin}{first}</s><turn>user:More</s><turn>assistant:") + "\n"


def test_a_question_that_is_too_long_does_not_end_a_conversation(
    eqnet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    type_in(monkeypatch, b"x" * 200 + b"\nHi\n")
    ended = eqnet("generate", folder, "--chat", *COMMON)
    assert ended.status == 0
    assert "the prompt has 218 tokens; with one to follow it may have 127" in " ".join(ended.err.split())
    assert len(ended.out) > 0


def test_ctrl_c_leaves_what_there_is(eqnet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from eqnet.lm import generation

    pick, calls = generation.pick, []

    def interrupted(*arguments: object) -> int:
        calls.append(None)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return pick(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(generation, "pick", interrupted)
    ended = eqnet("generate", folder, "1 2 3", "--ids", *COMMON)
    assert (ended.status, ended.err) == (130, "")
    monkeypatch.undo()
    assert ended.out == " ".join(map(str, library_tokens(open_model(folder).engine)[:3])) + "\n"


def test_a_model_in_floating_point_answers_too(eqnet: Command, tmp_path: Path) -> None:
    save_byte_model(tmp_path, packed=False)
    ended = eqnet("generate", tmp_path, "once", *COMMON, "--json")
    assert json.loads(ended.out)["runs"] == "LlamaForCausalLM of transformers in float32"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("x" * 128,), "the prompt has 128 tokens; with one to follow it may have 127, as the context holds 128"),
        (("",), "the prompt is empty"),
        (("1 260", "--ids"), f"token 260 is none of the model's {BYTES}; ids go from 0 to 259"),
        (("once", "--ids"), "'once': expected ids of tokens"),
        (("once", "--context", "129"), "a context of 129 tokens was asked for; the model's positions go up to 128"),
        (("once", "--temperature", "-1"), "temperature -1.0; expected 0"),
        (("once", "--top-p", "0"), "top-p 0.0; expected a share"),
        (("once", "--stop", ""), "stop at is empty"),
        (("1", "--ids", "--stop", "a"), "texts to stop at need a tokenizer"),
        (("once", "--chat"), "--chat reads its lines from standard input"),
        (("once", "--system", "a"), "--system goes with --chat"),
    ],
    ids=str,
)
def test_bad_input_is_refused(eqnet: Command, folder: Path, arguments: tuple[str, ...], words: str) -> None:
    ended = eqnet("generate", folder, *arguments)
    assert (ended.status, ended.out) == (2, "")
    assert words in " ".join(ended.err.split())


def test_input_that_is_no_text_is_refused(eqnet: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, b"\xff\xfe\x00")
    ended = eqnet("generate", folder)
    assert (ended.status, ended.out) == (2, "")
    assert "standard input: is no text in UTF-8" in ended.err


def test_without_a_tokenizer_ids_are_asked_for(eqnet: Command, tmp_path: Path) -> None:
    save_byte_model(tmp_path)
    for path in tmp_path.glob("token*"):
        path.unlink()
    assert "has no tokenizer; give the prompt as ids of tokens, with --ids" in eqnet("generate", tmp_path, "a").err
    assert eqnet("generate", tmp_path, "97", "--ids", *COMMON).status == 0
    assert "no tokenizer, which a conversation needs" in eqnet("generate", tmp_path, "--chat").err


def test_what_is_no_language_model_is_refused(eqnet: Command, tmp_path: Path) -> None:
    network, x = trained("digits")
    supernet = library.elasticize(network, library.Choices.parse("w=4 a=8"), x)
    supernet.calibrate([x])
    library.pack(supernet, supernet.space.draw(np.random.default_rng(0))).save(tmp_path / "digits")
    ended = eqnet("generate", tmp_path / "digits", "a")
    assert (ended.status, ended.out) == (2, "")
    assert "holds a DigitsNet, which is no language model" in " ".join(ended.err.split())
    (tmp_path / "empty").mkdir()
    assert "has no config.json" in " ".join(eqnet("generate", tmp_path / "empty", "a").err.split())
    assert "does not exist" in " ".join(eqnet("generate", tmp_path / "nothing", "a").err.split())


def torchrun(count: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(count), "--local-addr", "127.0.0.1"]
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "-m", "eqnet", "generate"]
    return subprocess.run(
        [sys.executable, *launcher, *rendezvous, *arguments], capture_output=True, text=True, timeout=100, check=False
    )


def test_two_processes_answer_as_one_and_only_one_of_them(folder: Path) -> None:
    ended = torchrun(2, str(folder), "once", "--max-tokens", "12", "--verbose")
    assert ended.stdout == expected(folder, "once")[0] + "\n", ended.stderr
    assert ended.stderr.count("split among 2 processes (cpu)") == 1


def test_a_number_of_processes_that_does_not_fit_is_refused(folder: Path) -> None:
    ended = torchrun(3, str(folder), "once")
    assert (ended.returncode != 0, ended.stdout) == (True, "")
    words = " ".join(ended.stderr.split())
    assert words.count("Error: 3 processes cannot share this model: its 4 heads, 2 of keys and values") == 1
    assert "take 1 or 2" in words
