"""``eqnet search --model`` and ``eqnet export`` of language models, from a folder to an answer."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import eqnet as library
from eqnet.cli import main
from eqnet.lm.source import open_source
from tests.cli.command import Command
from tests.eqnet.lm.packed_models import save_byte_model

pytest.importorskip("transformers")

SPACE = "w=3-6:group32:asym"
SEARCH = ("--method", "rtn", "--space", SPACE, "--samples", "20")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_byte_model(tmp_path_factory.mktemp("model"), packed=False)


@pytest.fixture(scope="module")
def searched(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished search; only other budgets are searched for in it."""
    folder = tmp_path_factory.mktemp("runs") / "bytes"
    with pytest.raises(SystemExit) as ended:
        main(["search", "--model", str(model), "--budget", "4.6bpw", "--out", str(folder), *SEARCH])
    assert not ended.value.code
    return folder


def test_what_was_searched_is_what_is_exported_and_answers(
    eqnet: Command, searched: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "packed"
    done = eqnet("export", searched, "-o", out, "--json")
    assert done.status == 0, done.err
    facts, result = json.loads(done.out), json.loads((searched / "result.json").read_text())
    assert facts["bpw"] == pytest.approx(result["cost"]["bpw"])
    assert facts["bpw"] <= 4.6
    assert facts["bytes"] == facts["budgeted"]
    packed = library.load(out)
    assert {name: str(layer.weight_format) for name, layer in packed.layers.items()} == {
        name: formats["weight"] for name, formats in result["subnet"].items()
    }
    assert (out / "tokenizer.json").read_bytes() == (model / "tokenizer.json").read_bytes()
    assert (out / "generation_config.json").exists()
    answered = eqnet("generate", out, "The best", "--max-tokens", "8", "--threads", "1", "--json")
    assert answered.status == 0, answered.err
    assert len(json.loads(answered.out)["ids"]) == 8
    other = eqnet("export", searched, "--method", "qat", "-o", tmp_path / "trained")
    assert other.status == 2
    assert "--method qat: goes with codes of gptq, and the search was on those of rtn" in " ".join(other.err.split())
    other = eqnet("export", searched, "--text", tmp_path / "none.txt", "-o", tmp_path / "trained")
    assert other.status == 2
    assert "--text: codes of --method rtn are those of the search, on its text" in " ".join(other.err.split())


def test_the_card_says_how_the_model_was_made_and_what_it_is_worth(
    eqnet: Command, searched: Path, tmp_path: Path
) -> None:
    out = tmp_path / "packed"
    assert eqnet("export", searched, "-o", out).status == 0
    card, result = (out / "README.md").read_text(), json.loads((searched / "result.json").read_text())
    assert f"| perplexity, test text | {result['perplexity']['test']:.3f}" in card
    assert f"| stored bits per weight, scales and zero points counted | {result['cost']['bpw']:.3f} |" in card
    assert "- codes: `rtn`" in card
    assert "- searched for: `4.6bpw`" in card


def test_another_budget_of_the_same_run(eqnet: Command, searched: Path, model: Path) -> None:
    done = eqnet("search", "--model", model, "--budget", "4bpw", "--out", searched, *SEARCH, "--json")
    assert done.status == 0, done.err
    assert json.loads(done.out)["cost"]["bpw"] <= 4
    done = eqnet("search", "--model", model, "--budget", "4.6bpw", "--out", searched, *SEARCH, "--json")
    assert done.status == 0, done.err


def test_a_model_needs_no_search_to_be_of_one_width(eqnet: Command, model: Path, tmp_path: Path) -> None:
    done = eqnet("export", model, "--uniform", "4", "--method", "rtn", "-o", tmp_path / "packed", "--json")
    assert done.status == 0, done.err
    packed, exact = library.load(tmp_path / "packed"), open_source(model)
    assert {layer.weight_format.bits for layer in packed.layers.values()} == {4}
    for name, layer in packed.layers.items():
        weight, found = exact.tensor(f"{name}.weight"), layer.weight.dequantize()
        assert float((weight - found).norm() / weight.norm()) < 0.12


def test_other_destinations_take_the_same(eqnet: Command, searched: Path, tmp_path: Path) -> None:
    done = eqnet("export", searched, "--uniform", "4", "--to", "gguf", "-o", tmp_path / "model.gguf", "--json")
    assert done.status == 0, done.err
    assert (tmp_path / "model.gguf").stat().st_size == json.loads(done.out)["files"]


def test_what_it_is_worth_on_text(eqnet: Command, searched: Path, model: Path, tmp_path: Path) -> None:
    assert eqnet("export", searched, "-o", tmp_path / "packed").status == 0
    (tmp_path / "book.txt").write_text("It was a dark and stormy night. " * 20)
    text = ("--text", tmp_path / "book.txt", "--windows", "2")
    done = eqnet("eval", tmp_path / "packed", "--task", "causal-lm", *text, "--reference", model, "--json")
    assert done.status == 0, done.err
    figures = json.loads(done.out)
    # Every byte is a token, and all of a window but its first are counted.
    assert figures["tokens"] == 2 * 127
    assert figures["bits_per_byte"] == pytest.approx(math.log2(figures["perplexity"]))
    assert 0 < figures["divergence"] < 0.1
    same = json.loads(eqnet("eval", model, *text, "--reference", model, "--json").out)
    assert (same["divergence"], same["agreement"]) == (0, 1)


def test_how_fast_it_is(eqnet: Command, model: Path) -> None:
    done = eqnet("bench", model, "--threads", "1", "--prompt", "32", "--tokens", "8", "--json")
    assert done.status == 0, done.err
    (speed,) = json.loads(done.out)["speeds"]
    assert min(speed["prefill"], speed["decode"], speed["first"], speed["peak"], speed["files"]) > 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("eval", "{model}", "--uniform", "4"), "--uniform: says nothing of a language model"),
        (("bench", "{model}", "--batch", "4"), "--batch: says nothing of a language model"),
        (("bench", "{model}", "--prompt", "512", "--threads", "1"), "do not fit into 128"),
        (("search", "--model", "{model}", "--budget", "2GBOPs"), "stored bits per weight"),
        (("search", "--model", "{model}", "--budget", "1bpw", *SEARCH), "1bpw"),
        (("search", "--model", "{model}", "--budget", "4bpw", "--task", "digits"), "--task: is of tasks"),
        (("search", "--budget", "4bit", "--method", "rtn"), "--method: is of language models"),
        (("search", "--model", "{tmp}", "--budget", "4bpw"), "has no config.json"),
        (("search", "--model", "{model}", "--budget", "4bpw", "--text", "{tmp}/none.txt"), "none.txt"),
        (("export", "{model}", "-o", "{tmp}/x"), "give --uniform or --subnet"),
        (("export", "{tmp}", "-o", "{tmp}/x"), "holds no search result"),
    ],
)
def test_what_is_wrong_is_named(
    eqnet: Command, model: Path, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    filled = [text.format(model=model, tmp=tmp_path) for text in arguments]
    if filled[0] == "search":
        filled += ["--out", str(tmp_path / "run")]
    done = eqnet(*filled)
    assert done.status in (1, 2)
    assert said in " ".join(done.err.split())


def test_the_run_of_a_language_model_is_not_that_of_a_task(eqnet: Command, searched: Path) -> None:
    done = eqnet("search", "--budget", "4bit", "--epochs", "0", "--out", searched)
    assert done.status == 2
    assert "holds the run of a language model" in done.err
    done = eqnet("eval", searched)
    assert done.status == 2
    assert "holds the run of a language model; eqnet export it" in done.err
