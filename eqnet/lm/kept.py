"""Tensors that a run keeps, in one file of safetensors, whose metadata says what they are of and has a hash of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from eqnet.errors import RunError
from eqnet.files import write_atomically


@dataclass(frozen=True)
class KeptTensors:
    """Where they are kept.

    Attributes:
        path: of the file.
        identity: of all that they were made from.
    """

    path: Path
    identity: str

    def read(self) -> dict[str, Tensor] | None:
        """Them by name; None if there is no file, or one that was made from something else.

        Raises:
            RunError: the file is damaged.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata: dict[str, str] = file.metadata()
                found: dict[str, Tensor] = {name: file.get_tensor(name) for name in sorted(file.keys())}
            if metadata["sha256"] != _digest(found):
                raise ValueError("its contents are not those that were written")
            return found if metadata["identity"] == self.identity else None
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as e:
            raise RunError(f"{self.path}: cannot be read ({e}); remove it, and it is made anew") from e

    def write(self, tensors: Mapping[str, Tensor]) -> None:
        """Keeps tensors instead of what is there; raises RunError if the file cannot be written."""
        metadata = {"identity": self.identity, "sha256": _digest(tensors)}
        write_atomically(self.path, save(dict(tensors), metadata))


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()
