"""What a block is given for many windows of text at once, and what it makes of them, a few at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

AT_ONCE = 2
"""Windows that go through a block together: what it makes on the way is many times what it is given."""


@dataclass(frozen=True, eq=False)
class Given:
    """The arguments of a block for N windows; its hidden states [N, T, H] are the first.

    Attributes:
        args: without names.
        kwargs: by name.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def hidden(self) -> Tensor:
        """The hidden states."""
        states: Tensor = self.args[0]
        return states

    def instead(self, hidden: Tensor) -> Given:
        """The same with other hidden states."""
        return replace(self, args=(hidden, *self.args[1:]))

    def of(self, windows: Tensor) -> Given:
        """What concerns the windows of these indices, int64 [n]."""
        part = _part_of(self.kwargs, windows, len(self.hidden))
        return Given(_part_of(self.args, windows, len(self.hidden)), part)

    def pieces(self) -> list[Tensor]:
        """Indices of all windows, ``AT_ONCE`` together."""
        return list(torch.arange(len(self.hidden)).split(AT_ONCE))  # type: ignore[no-untyped-call]

    def call(self, block: nn.Module) -> Any:
        """What the block returns for all of them: its new hidden states, or these and more."""
        outputs = [block(*part.args, **part.kwargs) for part in map(self.of, self.pieces())]
        hidden = torch.cat([first_tensor(output) for output in outputs])
        return (hidden, *outputs[-1][1:]) if isinstance(outputs[-1], tuple) else hidden


def first_tensor(output: Any) -> Tensor:
    """What a block returns, or the first of it."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def _part_of(value: Any, windows: Tensor, count: int) -> Any:
    if isinstance(value, Tensor) and value.ndim and len(value) == count:
        return value[windows]
    if isinstance(value, tuple):
        return tuple(_part_of(item, windows, count) for item in value)
    if isinstance(value, Mapping):
        return {name: _part_of(item, windows, count) for name, item in value.items()}
    return value
