"""Checkpoints of a training run, and its log: both survive being killed at any moment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from eqnet.errors import RunError
from eqnet.files import write_atomically
from eqnet.supernet import Supernet, load_tied, without_aliases


class Checkpoint:
    """Everything that the next step depends on, in one safetensors file: tensors, optimizer state, step.

    Args:
        path: of the file.
        identity: what the run was made with; a file made with anything else is refused.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path = path
        self._identity = json.dumps(dict(identity), sort_keys=True)

    def save(self, supernet: Supernet, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Replaces the file by the state after ``step`` steps."""
        tensors = {f"supernet.{name}": tensor for name, tensor in without_aliases(supernet.state_dict()).items()}
        for index, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                tensors[f"optimizer.{index}.{name}"] = torch.as_tensor(value)
        header = {
            "format": "eqnet-checkpoint",
            "step": str(step),
            "identity": self._identity,
            "space": supernet.space.fingerprint(),
        }
        write_atomically(self.path, save({n: t.detach().contiguous() for n, t in tensors.items()}, header))

    def restore(self, supernet: Supernet) -> tuple[int, dict[str, Tensor]]:
        """Puts back the tensors of the supernet.

        Returns:
            The steps done, 0 if there is no file; and what ``restore_optimizer`` takes.

        Raises:
            RunError: the file is corrupt, or of another model, space or set of options.
        """
        if not self.path.exists():
            return 0, {}
        try:
            with safe_open(self.path, framework="pt") as file:
                header = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (OSError, SafetensorError) as e:
            raise RunError(f"{self.path}: cannot be read as a checkpoint ({e}); start over with --fresh") from e
        if (
            header.get("format") != "eqnet-checkpoint"
            or header.get("identity") != self._identity
            or header.get("space") != supernet.space.fingerprint()
        ):
            raise RunError(
                f"{self.path}: was made by a training run with another model, space or options; start over with --fresh"
            )
        split = _by_owner(tensors)
        load_tied(supernet, split["supernet"], self.path)
        return int(header["step"]), split["optimizer"]


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Puts back the state that ``Checkpoint.save`` wrote; the groups keep their own settings."""
    state = optimizer.state_dict()
    state["state"] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state["state"].setdefault(int(index), {})[key] = tensor
    optimizer.load_state_dict(state)


class Log:
    """One JSON object a line; a resumed run first drops the lines past its checkpoint.

    Args:
        path: of the file.
        steps: how many steps the run has done; later lines are dropped.
    """

    def __init__(self, path: Path, steps: int) -> None:
        kept = []
        if path.exists() and steps:
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    if json.loads(line)["step"] <= steps:
                        kept.append(line + "\n")
                except (ValueError, KeyError, TypeError):
                    break  # the line that was being written when the process was killed
        write_atomically(path, "".join(kept))
        self._path = path
        self._file = path.open("ab", buffering=0)  # a line is one write, and none waits for the file to be closed

    def add(self, values: Mapping[str, Any]) -> None:
        """Writes a line; raises RunError if the disk is full."""
        line = (json.dumps(dict(values)) + "\n").encode()
        try:
            written = self._file.write(line)
        except OSError as e:
            raise RunError(f"{self._path}: cannot be written ({e.strerror or e}); free some space") from e
        if written != len(line):
            raise RunError(f"{self._path}: cannot be written whole; free some space")

    def close(self) -> None:
        self._file.close()


def _by_owner(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    split: dict[str, dict[str, Tensor]] = {"supernet": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        owner, _, rest = name.partition(".")
        split.setdefault(owner, {})[rest] = tensor
    return split
