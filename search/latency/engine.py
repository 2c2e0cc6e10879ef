"""What is asked of an engine whose networks are timed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import ClassVar, Protocol

from torch import Tensor

from eqnet.bench.timing import Call
from eqnet.errors import MissingPackageError
from eqnet.formats import LayerFormat
from eqnet.packed.layers import PackedLayer
from eqnet.packed.model import PackedModel
from eqnet.search.latency.machine import processor
from eqnet.space import ElasticSpace, Layer


class Kernels(Protocol):
    """Tells which formats make an engine do the same work."""

    def stand_in(self, layer: Layer, fmt: LayerFormat) -> LayerFormat:
        """The format that stands for all those in which ``layer`` runs the same kernel on the same amount of memory.

        Args:
            layer: of the space.
            fmt: that it takes.
        """


class Engine(Kernels, Protocol):
    """Runs the layers and the networks of one space. Two that are equal do so alike.

    ``str`` of it says how layers are run alone, as part of what their times are kept under.

    Attributes:
        values: whether times depend on values, such as those of scales and zero points: they may let the engine leave
            out or merge some of its work.
    """

    values: ClassVar[bool]

    def layers(self, formats: Sequence[PackedLayer], x: Tensor) -> list[Call]:
        """Calls of one layer in several formats on its input, by what would run it in its network.

        Args:
            formats: the layer in each, on the CPU; made to be timed, so that they may be changed.
            x: what it is given for one input of the network.
        """

    def network(self, packed: PackedModel, example: Tensor) -> Call:
        """A call of a network as it is deployed.

        Args:
            packed: on the CPU.
            example: one input.
        """


@dataclass(frozen=True)
class Timed:
    """A target whose networks can be timed here: one row of a table.

    Attributes:
        target: its name.
        opened: the engine for a space, given one of its networks, one input, the space and the number of threads.
        packages: whose versions the times depend on.
        extra: of eqnet that installs them; empty for those that eqnet needs itself.
        isa: instruction set of the kernels, if it is known.
    """

    target: str
    opened: Callable[[PackedModel, Tensor, ElasticSpace, int], Engine]
    packages: tuple[str, ...]
    extra: str = ""
    isa: Callable[[], str] | None = None

    def machine(self, threads: int) -> str:
        """Processor, instruction set, threads and versions, in words: times of one machine say nothing of another.

        Raises:
            MissingPackageError: the engine is not installed.
        """
        try:
            versions = ", ".join(f"{package} {metadata.version(package)}" for package in self.packages)
        except metadata.PackageNotFoundError as e:
            raise MissingPackageError(
                f"timing networks for the target '{self.target}' needs {e.name}; run: pip install 'eqnet[{self.extra}]'"
            ) from e
        isa = f"{self.isa()}, " if self.isa is not None else ""
        return f"{processor()}, {isa}{threads} thread{'s' if threads > 1 else ''}, {versions}"
