"""What every opened artifact is: something to call, whatever runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from eqnet.errors import InputError
from eqnet.packed.record import Record


@dataclass(frozen=True)
class InputSpec:
    """What a model takes as one of its inputs.

    Attributes:
        name: as the artifact calls it.
        shape: with the batch; None where any size will do.
        dtype: of the elements.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: torch.dtype

    def __str__(self) -> str:
        sizes = [("?" if i else "N") if size is None else str(size) for i, size in enumerate(self.shape)]
        return f"{self.name}: {dtype_name(self.dtype)} [{', '.join(sizes)}]"

    def takes(self, x: Tensor) -> bool:
        """Whether ``x`` is of this type and shape."""
        sizes = zip(self.shape, x.shape) if len(self.shape) == x.ndim else [(-1, 0)]
        return x.dtype == self.dtype and all(expected in (None, found) for expected, found in sizes)


class Runner(ABC):
    """An artifact, opened: call it with its inputs, in the order of ``inputs``.

    ``str`` tells people what runs it.

    Attributes:
        path: of the artifact.
        kind: what form of artifact it is: ``eqnet``, ``onnx`` or ``tvm``.
        record: what is known of its formats; None if eqnet did not write it.
        inputs: what it takes; empty if the artifact does not say.
        outputs: names of what it returns; empty if the artifact does not say.
    """

    kind: ClassVar[str]

    def __init__(
        self, path: Path, record: Record | None, inputs: tuple[InputSpec, ...], outputs: tuple[str, ...] = ()
    ) -> None:
        self.path = path
        self.record = record
        self.inputs = inputs
        self.outputs = outputs

    @abstractmethod
    def __call__(self, *xs: Tensor) -> Tensor:
        """What the model returns for one batch; the first of its outputs if there are several.

        Raises:
            InputError: the inputs are not those that it takes; the message names the expected and the given.
        """

    def layers(self, *xs: Tensor, given: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Results of the packed layers by name, in the order in which they run.

        Batch norms that were folded into a layer are part of it. Where the network is one program, or an engine fuses
        layers, they are run one by one for this.

        Args:
            xs: as for a call.
            given: what follows a layer reads this in place of the layer's result.

        Returns:
            Nothing if the artifact does not let one see them.
        """
        return {}

    def approximate(self) -> frozenset[str]:
        """Layers in or before whose results, as ``layers`` gives them, it rounds what the packed model does not."""
        return frozenset()


def check(path: Path, specs: Sequence[InputSpec], xs: Sequence[Tensor]) -> None:
    """Raises InputError, with what is expected and what was given, unless ``xs`` are what ``specs`` say."""
    if len(xs) == len(specs) and all(spec.takes(x) for spec, x in zip(specs, xs)):
        return
    expected = "; ".join(map(str, specs))
    raise InputError(f"{path}: takes {expected}; given {described(xs)}")


def described(xs: Sequence[Tensor]) -> str:
    """Types and shapes, for messages."""
    return ", ".join(f"{dtype_name(x.dtype)} {[*x.shape]}" for x in xs) or "nothing"


def dtype_name(dtype: torch.dtype) -> str:
    """``float32`` of ``torch.float32``."""
    return str(dtype).removeprefix("torch.")
