"""Folders of packed models, on eqnet's own kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from eqnet.packed.loading import load
from eqnet.packed.model import PackedModel
from eqnet.packed.record import Record
from eqnet.runtime.engine import Engine, engine_for, layer_by_layer
from eqnet.runtime.engines.hooks import results
from eqnet.runtime.runner import InputSpec, Runner
from eqnet.threads import threads


class PackedRunner(Runner):
    """A packed model: one integer program where it compiles, else its layers one by one.

    It takes other sizes of images than those in ``inputs``, too, where the network does.

    Attributes:
        packed: the model.
    """

    kind = "eqnet"

    def __init__(self, path: Path, packed: PackedModel, threads: int | None = None) -> None:
        super().__init__(path, packed.record, _inputs(packed.record))
        self.packed = packed
        self._threads = threads
        self._engine: Engine | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        model: nn.Module | Callable[[], nn.Module] | None = None,
        *,
        exact: bool = True,
        threads: int | None = None,
    ) -> PackedRunner:
        """Loads the folder; see ``eqnet.load``."""
        return cls(path, load(path, model, compute="float" if exact else "int8"), threads)

    def engine(self, *xs: Tensor) -> Engine:
        """What runs it; compiled for what the artifact says that it takes, or for inputs like ``xs`` if it does not."""
        if self._engine is None:
            known = [torch.zeros([size or 1 for size in spec.shape], dtype=spec.dtype) for spec in self.inputs]
            self._engine = engine_for(self.packed, *(known or [x[:1] for x in xs]))
        return self._engine

    def __call__(self, *xs: Tensor) -> Tensor:
        with threads(self._threads):
            return self.engine(*xs).run(*xs)

    def layers(self, *xs: Tensor, given: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        with threads(self._threads):
            return results(self.packed.layers, lambda: layer_by_layer(self.packed, *xs), given or {})

    def __str__(self) -> str:
        if self._engine is None and not self.inputs:
            return "what the first inputs compile to"
        return str(self.engine())


def _inputs(record: Record) -> tuple[InputSpec, ...]:
    """What the record says of the one input of the task's model; nothing if it does not."""
    match record.metadata:
        case {"input": {"shape": [*shape], "dtype": str(name)}} if all(type(size) is int for size in shape):
            dtype = getattr(torch, name, None)
            if isinstance(dtype, torch.dtype):
                return (InputSpec("x", (None, *shape), dtype),)
    return ()
