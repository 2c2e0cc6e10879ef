"""What an artifact says of where it comes from and what it takes; kept in the metadata of its record."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from eqnet.errors import InputError
from eqnet.tasks.task import Normalization, Task

_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.int64, torch.int32)} | {
    str(dtype).removeprefix("torch."): dtype for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.uint8)
}

PARTS = ("test", "validation")
"""Of a task's data, what networks are judged on."""

_SEEDS = 1 << 32
_LARGEST = 1 << 30  # elements of one input; more are a damaged file


@dataclass(frozen=True)
class Origin:
    """Where a packed model comes from, and what it takes.

    Attributes:
        task: as it was given to ``--task``. It may name code of whoever made the artifact: only what the user names
            anew is ever imported.
        name: of the task.
        seed: of the run.
        shape: of one input, without the batch.
        dtype: of the inputs.
        normalization: of the pixels of an image, if the task declares it.
        accuracy: what the search measured, by part of the data; empty if the network is none that it judged.
        budgets: what it was searched for, as the user wrote it; empty likewise.
    """

    task: str
    name: str
    seed: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    normalization: Normalization | None = None
    accuracy: Mapping[str, float] = field(default_factory=dict)
    budgets: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        task: Task,
        spec: str,
        seed: int,
        accuracy: Mapping[str, float] | None = None,
        budgets: tuple[str, ...] = (),
    ) -> Origin:
        """That of a model of ``task``, which was loaded from ``spec``."""
        example = task.example_inputs()
        shape = tuple(example.shape[1:])
        return cls(spec, task.name, seed, shape, example.dtype, task.normalization, accuracy or {}, budgets)

    def example(self, count: int = 1) -> torch.Tensor:
        """A batch of inputs that are all zeros."""
        return torch.zeros(count, *self.shape, dtype=self.dtype)

    def to_json(self) -> dict[str, Any]:
        known = self.normalization
        return {
            "task": {"spec": self.task, "name": self.name, "seed": self.seed},
            "input": {
                "shape": list(self.shape),
                "dtype": str(self.dtype).removeprefix("torch."),
                "normalization": {"mean": list(known.mean), "std": list(known.std)} if known is not None else None,
            },
            "accuracy": dict(self.accuracy),
            "budgets": list(self.budgets),
        }

    @classmethod
    def from_json(cls, data: object) -> Origin | None:
        """Reads what ``to_json`` gives; None if there is nothing of it.

        Raises:
            InputError: it is something else.
        """
        match data:
            case {
                "task": {"spec": str(spec), "name": str(name), "seed": int(seed)},
                "input": {"shape": [*shape], "dtype": str(dtype), "normalization": normalization},
                "accuracy": dict(accuracy),
                **rest,
            } if (
                spec.isprintable()
                and name.isprintable()
                and 0 <= seed < _SEEDS
                and dtype in _DTYPES
                and all(type(size) is int and size > 0 for size in shape)
                and math.prod(shape) <= _LARGEST
                and all(part in PARTS and _is_share(value) for part, value in accuracy.items())
            ):
                known = _normalization(normalization)
                return cls(
                    spec, name, seed, tuple(shape), _DTYPES[dtype], known, accuracy, _budgets(rest.get("budgets", []))
                )
            case {"task": _} | {"input": _}:
                raise InputError("its metadata do not describe a task and its inputs as eqnet export writes them")
        return None


def _normalization(data: object) -> Normalization | None:
    match data:
        case None:
            return None
        case {"mean": [*mean], "std": [*std]}:
            return Normalization(tuple(mean), tuple(std))
    raise InputError(f"normalization: expected mean and std; found {data!r}")


def _budgets(data: object) -> tuple[str, ...]:
    if isinstance(data, list) and all(isinstance(text, str) and text.isprintable() for text in data):
        return tuple(data)
    raise InputError(f"budgets: expected texts; found {data!r}")


def _is_share(value: object) -> bool:
    return type(value) is float and math.isfinite(value)
