"""What is said of a GGUF file that was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GgufReport:
    """What was written.

    Attributes:
        path: of the file.
        nbytes: of it.
        packed_bytes: of the weights' codes, scales and zero points, in exactly their bits.
        stored_bytes: of the same in ggml's types.
        weights: how many there are.
        forms: how many layers are in which type.
        architecture: llama.cpp's name for the family of the model.
        tokenizer: what the file has of it, in words.
    """

    path: Path
    nbytes: int
    packed_bytes: int
    stored_bytes: int
    weights: int
    forms: Mapping[str, int]
    architecture: str
    tokenizer: str

    @property
    def bpw(self) -> float:
        """Bits per weight in the file, scales and zero points counted."""
        return 8 * self.stored_bytes / max(self.weights, 1)
