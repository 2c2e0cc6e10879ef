"""llama.cpp's kinds of files of a language model: how many bits each takes, and what it is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from language_subjects import Figures, Kept, Subject
from llamacpp import importance, opened, quantize, write_float

if TYPE_CHECKING:
    import numpy as np

KINDS = ("Q2_K", "Q3_K_M", "Q4_0", "Q4_K_M", "Q5_K_M", "Q6_K")
"""Where a row is no multiple of 256 long, llama.cpp takes wider types of tensors for the K-quants than they ask for."""


class Files:
    """A model's files of llama.cpp, written when they are first asked for and kept.

    Args:
        subject: the model.
        folder: of the files.
        threads: to take.
    """

    def __init__(self, subject: Subject, folder: Path, threads: int) -> None:
        self._subject, self._folder, self._threads = subject, folder, threads
        self._matrix: dict[str, np.ndarray] = {}

    def path(self, kind: str) -> Path:
        """The file of one kind."""
        path = self._folder / f"{self._subject.name}-{kind}.gguf"
        if path.exists():
            return path
        self._folder.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        if kind == "F32":
            write_float(self._subject.source, unfinished)
        else:
            self._matrix = self._matrix or importance(self._subject.source, self._subject.calibration)
            quantize(self.path("F32"), unfinished, kind, self._matrix, self._threads)
        return unfinished.replace(path)


def peers(
    subject: Subject, kinds: Sequence[str], folder: Path, kept: Kept, threads: int
) -> Iterator[tuple[str, Figures]]:
    """Each kind's name and figures."""
    files = Files(subject, folder, threads)
    for kind in kinds:
        name = f"llama.cpp {kind}"
        yield name, kept.figures(name, lambda k=kind: _measured(subject, files.path(k), threads))


def _measured(subject: Subject, path: Path, threads: int) -> Figures:
    with opened(path, subject.unseen.shape[1], threads) as peer:
        return subject.judged(peer, bits_per_weight(path))


def bits_per_weight(path: Path) -> float:
    """Of a GGUF file's matrices, as eqnet counts them: without the vectors of norms, which stay in float32."""
    import gguf

    matrices = [tensor for tensor in gguf.GGUFReader(path).tensors if len(tensor.shape) > 1]
    return 8 * sum(int(tensor.n_bytes) for tensor in matrices) / sum(int(tensor.n_elements) for tensor in matrices)
