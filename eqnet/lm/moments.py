"""Second moments of what goes into layers."""

from __future__ import annotations

from torch import Tensor


class Moments:
    """Sums of ``x xᵀ`` by the path of a layer; layers that are given one and the same tensor (q, k, v) share a sum."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._owner: dict[str, str] = {}
        self._last: tuple[Tensor, str] | None = None
        self._count: dict[str, int] = {}

    def add(self, path: str, x: Tensor) -> None:
        """Adds the inputs of one call of a layer, [..., cols]."""
        if self._last is not None and self._last[0] is x:
            self._owner[path] = self._last[1]
            return
        self._last = (x, path)
        flat = x.detach().flatten(0, -2).float()
        square = flat.T @ flat
        self._sums[path] = self._sums[path] + square if path in self._sums else square
        self._count[path] = self._count.get(path, 0) + len(flat)

    def forget(self) -> None:
        """Lets go of the last inputs; no call to come is given them."""
        self._last = None

    def means(self) -> dict[str, Tensor]:
        """By path, float32 [cols, cols]; layers that share a sum share the tensor."""
        means = {path: total / self._count[path] for path, total in self._sums.items()}
        return {**means, **{path: means[owner] for path, owner in self._owner.items()}}
