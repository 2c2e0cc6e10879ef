"""Engines that run what eqnet exports: layers, too, are timed as the files that are written of them alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from torch import Tensor, nn

from eqnet.bench.timing import Call
from eqnet.formats import LayerFormat
from eqnet.packed.layers import PackedLayer
from eqnet.packed.model import PackedModel
from eqnet.packed.record import Record
from eqnet.space import Layer

Write = Callable[[PackedModel, Path, Tensor, Sequence[Tensor]], Any]
"""Writes a packed model to a path, given one batch of its inputs, and batches like those of its use."""


@dataclass(frozen=True)
class FileEngine:
    """Runs what is written to a file.

    Attributes:
        name: of the engine and of how it is used.
        suffix: of the name of the file.
        write: writes it.
        open: the call of what is in the file on some input, on as many threads.
        stands: see ``Kernels.stand_in``.
        threads: of the engine.
    """

    name: str
    suffix: str
    write: Write = field(compare=False)
    open: Callable[[Path, Tensor, int], Call] = field(compare=False)
    stands: Callable[[Layer, LayerFormat], LayerFormat]
    threads: int
    values: ClassVar[bool] = True

    def __str__(self) -> str:
        return f"by itself in {self.name}"

    def stand_in(self, layer: Layer, fmt: LayerFormat) -> LayerFormat:
        """See ``Kernels``."""
        return self.stands(layer, fmt)

    def layers(self, formats: Sequence[PackedLayer], x: Tensor) -> list[Call]:
        """See ``Engine``. What a layer returns is quantized where that is how the engine's kernels run."""
        return [self.network(PackedModel(_alone(layer), Record({})), x) for layer in formats]

    def network(self, packed: PackedModel, example: Tensor) -> Call:
        """See ``Engine``."""
        with self.written(packed, example) as path:
            return self.open(path, example, self.threads)

    @contextmanager
    def written(self, packed: PackedModel, example: Tensor) -> Iterator[Path]:
        """A file of ``packed``, for as long as it takes to open it: engines hold what they run in memory."""
        with TemporaryDirectory(prefix="eqnet-") as folder:
            path = Path(folder) / f"timed{self.suffix}"
            self.write(packed, path, example, [example])
            yield path


def _alone(layer: PackedLayer) -> nn.Module:
    """A model of nothing but ``layer``, by the name that it has."""
    model: nn.Module = layer
    for name in reversed(layer.path.split(".") if layer.path else []):
        model = nn.Sequential(OrderedDict({name: model}))
    return model
