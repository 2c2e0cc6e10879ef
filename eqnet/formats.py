"""What a format is: how one tensor is quantized."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from eqnet.errors import InputError

MIN_BITS, MAX_BITS = 2, 8

_PATTERN = re.compile(r"(?P<sign>u?)int(?P<bits>[0-9]{1,9}):(?:(?P<name>tensor|channel)|group(?P<size>[0-9]{1,9}))")


class Granularity(str, Enum):
    """How many elements share one scale: the whole tensor, an output channel, or a group of its inputs."""

    TENSOR = "tensor"
    CHANNEL = "channel"
    GROUP = "group"


@dataclass(frozen=True)
class Format:
    """How one tensor is quantized.

    Written ``int4:channel`` (symmetric: signed codes, zero point 0), ``uint4:tensor`` (asymmetric: unsigned
    codes and an integer zero point among them) or ``int3:group32``: the type of the stored code, then what
    shares a scale.

    Attributes:
        bits: width of a code, 2 to 8.
        symmetric: codes in [-2^(b-1), 2^(b-1)-1] with zero point 0; otherwise codes in [0, 2^b-1].
        granularity: what shares one scale.
        group_size: consecutive inputs of one output channel that share a scale; 0 unless granularity is GROUP.
    """

    bits: int
    symmetric: bool = True
    granularity: Granularity = Granularity.TENSOR
    group_size: int = 0

    def __post_init__(self) -> None:
        if not MIN_BITS <= self.bits <= MAX_BITS:
            raise InputError(f"a format of {self.bits} bits was asked for; bits range from 2 to 8")
        if (self.granularity is Granularity.GROUP) != (self.group_size > 0) or self.group_size < 0:
            raise InputError(
                f"group size {self.group_size} does not go with granularity '{self.granularity.value}'; "
                "only groups have a size, and it is at least 1"
            )

    @classmethod
    def parse(cls, text: str) -> Format:
        """Reads what ``str`` writes.

        Raises:
            InputError: the text is not a format.

        >>> Format.parse("uint3:group32")
        Format(bits=3, symmetric=False, granularity=<Granularity.GROUP: 'group'>, group_size=32)
        """
        match = _PATTERN.fullmatch(text)
        if match is None:
            raise InputError(f"{text!r} is not a format; write one like int4:channel, uint8:tensor or int3:group32")
        size = int(match["size"] or 0)
        granularity = Granularity(match["name"]) if match["name"] else Granularity.GROUP
        return cls(int(match["bits"]), match["sign"] == "", granularity, size)

    def __str__(self) -> str:
        return f"{'' if self.symmetric else 'u'}int{self.bits}:{self.granularity.value}{self.group_size or ''}"

    @property
    def qmin(self) -> int:
        """The smallest code."""
        return -(1 << (self.bits - 1)) if self.symmetric else 0

    @property
    def qmax(self) -> int:
        """The largest code."""
        return (1 << (self.bits - 1)) - 1 if self.symmetric else (1 << self.bits) - 1

    def scale_shape(self, rows: int, cols: int) -> tuple[int, int]:
        """Shape of the scales of a [rows, cols] matrix; a last, shorter group has a scale of its own."""
        if self.granularity is Granularity.TENSOR:
            return 1, 1
        if self.granularity is Granularity.CHANNEL:
            return rows, 1
        return rows, -(-cols // self.group_size)


@dataclass(frozen=True)
class LayerFormat:
    """A weight format and an input-activation format; no activation format means weight-only."""

    weight: Format
    activation: Format | None = None

    def __str__(self) -> str:
        return f"{self.weight} × {self.activation or 'float'}"

    def to_json(self) -> dict[str, str | None]:
        return {
            "weight": str(self.weight),
            "activation": str(self.activation) if self.activation is not None else None,
        }

    @classmethod
    def from_json(cls, data: object) -> LayerFormat:
        """Raises InputError unless data is ``{"weight": FORMAT, "activation": FORMAT or null}``."""
        if not isinstance(data, dict) or set(data) != {"weight", "activation"}:
            raise InputError(f"{data!r} is not a layer format; expected the keys 'weight' and 'activation'")
        activation = data["activation"]
        return cls(
            Format.parse(str(data["weight"])),
            Format.parse(str(activation)) if activation is not None else None,
        )
