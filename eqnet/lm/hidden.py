"""Last hidden states of a model in floating point, kept: the next token's distributions are one product away.

One file of safetensors: ``hidden``, float32 [N, T, width]. Its metadata says what they are of, and has a hash of them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from eqnet.errors import RunError
from eqnet.files import write_atomically


@dataclass(frozen=True)
class HiddenStates:
    """Where they are kept.

    Attributes:
        path: of the file.
        identity: of the model and the text.
    """

    path: Path
    identity: str

    def read(self) -> Tensor | None:
        """Them, float32 [N, T, width]; None if there is no file.

        Raises:
            RunError: the file is damaged, or of another model or text.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata: dict[str, str] = file.metadata()
                hidden: Tensor = file.get_tensor("hidden")
            identity, digest = metadata["identity"], metadata["sha256"]
            if digest != _digest(hidden):
                raise ValueError("its contents have changed since they were written")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as e:
            raise RunError(f"{self.path}: cannot be read as hidden states ({e}); remove it") from e
        if identity != self.identity:
            raise RunError(f"{self.path}: is of another model or text; remove it")
        return hidden

    def write(self, hidden: Tensor) -> None:
        """Keeps them, float32 [N, T, width]; raises RunError if the file cannot be written."""
        metadata = {"identity": self.identity, "sha256": _digest(hidden)}
        write_atomically(self.path, save({"hidden": hidden}, metadata))


def _digest(hidden: Tensor) -> str:
    return hashlib.sha256(hidden.numpy().tobytes()).hexdigest()
