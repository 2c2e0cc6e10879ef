"""Operators of torch that TVM's importer takes wrongly, and what is done about each.

- ``instance_norm`` would be decomposed into a batch norm of N · C channels, which the importer takes for a number: it
  stays as it is.
- ``select`` of an index that counts from the end would read what is before the tensor: it counts from the start.
- ``full`` and ``full_like`` of infinity, which masks are made of, do not compile: they are one number, broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch.export import default_decompositions
from torch.fx import Node
from tvm import relax, te

_KEPT = (torch.ops.aten.instance_norm.default,)


def decompositions() -> Any:
    """Into what operators are decomposed before TVM imports them."""
    table = default_decompositions()
    for operator in _KEPT:
        del table[operator]
    return table


def _full(node: Node, importer: Any) -> Any:
    size, value, *_ = importer.retrieve_args(node)
    return _filled(node, importer, size, value)


def _full_like(node: Node, importer: Any) -> Any:
    like, value, *_ = importer.retrieve_args(node)
    return _filled(node, importer, like.ty.shape, value)


def _filled(node: Node, importer: Any, size: Any, value: Any) -> Any:
    dtype = str(node.meta["val"].dtype).removeprefix("torch.")
    if isinstance(value, bool | int | float):
        value = relax.const(np.asarray(value, dtype))
    else:
        value = importer.block_builder.emit(relax.op.astype(value, dtype))
    return importer.block_builder.emit(relax.op.broadcast_to(value, size))


def _select(node: Node, importer: Any) -> Any:
    x, dimension, index = importer.retrieve_args(node)
    dimension %= x.ty.ndim

    def selected(t: Any) -> Any:
        at = index + t.shape[dimension] if isinstance(index, int) and index < 0 else index
        shape = (*t.shape[:dimension], *t.shape[dimension + 1 :])
        return te.compute(shape, lambda *i: t(*i[:dimension], at, *i[dimension:]), name="selected")

    return importer.block_builder.emit_te(selected, x, primfunc_name_hint="select")


TRANSLATIONS: Mapping[str, Callable[[Node, Any], Any]] = MappingProxyType(
    {"full.default": _full, "full_like.default": _full_like, "select.int": _select}
)
"""By the name of an operator, from a node and the importer to an expression of Relax."""
