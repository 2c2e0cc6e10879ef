"""Short forms for writing TIR functions in Python."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script.builder import ir as T

Expr = Any
"""A TIR expression."""

Buffer = Any
"""A TIR buffer."""


@dataclass(frozen=True)
class Argument:
    """A tensor that a function reads or writes.

    Attributes:
        elements: of it, or of each image.
        dtype: of its elements.
        by_image: whether its shape is [images, elements], else [elements].
        shape: that of one image, if it is not [elements].
    """

    elements: int
    dtype: str
    by_image: bool = False
    shape: tuple[int, ...] = ()

    def extents(self, images: Any) -> tuple[Any, ...]:
        """Its shape."""
        own = self.shape or (self.elements,)
        return (images, *own) if self.by_image else own


def function(arguments: Sequence[Argument], body: Callable[[Expr, list[Buffer]], None]) -> Any:
    """A TIR function.

    Args:
        arguments: those that are written come last.
        body: writes the statements; takes the number of images and the arguments.
    """
    with IRBuilder() as builder:
        with T.prim_func(True, s_tir=True):
            T.func_name("kernel")
            handles = [T.arg(f"a{i}", T.handle()) for i in range(len(arguments))]
            images = T.int64()
            buffers = [
                T.match_buffer(handle, argument.extents(images), argument.dtype, layout=None)
                for handle, argument in zip(handles, arguments, strict=True)
            ]
            T.func_attr({"tirx.noalias": True})
            body(images, buffers)
        return builder.get()


def load(buffer: Buffer, lanes: int, *index: Expr) -> Expr:
    """``lanes`` consecutive elements; one element is a scalar."""
    *first, last = index
    return buffer[(*first, T.ramp(last, 1, lanes) if lanes > 1 else last)]


def store(buffer: Buffer, value: Expr, lanes: int, *index: Expr) -> None:
    """Writes ``lanes`` consecutive elements."""
    *first, last = index
    T.buffer_store(buffer, value, [*first, T.ramp(last, 1, lanes) if lanes > 1 else last])


def splat(value: Expr, lanes: int) -> Expr:
    """``value`` in every lane."""
    return T.broadcast(value, lanes) if lanes > 1 else value


def vector(dtype: str, lanes: int) -> str:
    """The name of a type of vectors."""
    return f"{dtype}x{lanes}" if lanes > 1 else dtype


def local(dtype: str, lanes: int) -> Buffer:
    """A vector that can be changed; it stays in registers."""
    return T.alloc_buffer((lanes,), dtype, scope="global", layout=None)


def scratch(elements: int, dtype: str) -> Buffer:
    """Memory that the function alone uses."""
    return T.alloc_buffer((elements,), dtype, scope="global", align=64, layout=None)


def flat(buffer: Buffer, elements: Expr, dtype: str) -> Buffer:
    """The same memory in one dimension."""
    return T.decl_buffer((elements,), dtype, data=buffer.data, layout=None)


def bind(value: Expr) -> Expr:
    """Computes ``value`` once, here."""
    return T.bind(value)


@contextlib.contextmanager
def loop(count: Expr, *, parallel: bool = False) -> Iterator[Expr]:
    """A loop from 0; a parallel one splits its steps among threads."""
    if isinstance(count, int) and count == 1:
        yield 0
        return
    with (T.parallel if parallel else T.serial)(0, count) as i:
        yield i


def quotient(a: Expr, b: int) -> Expr:
    """``a`` over ``b``, both not negative, rounded down."""
    return a // b if isinstance(a, int) else T.truncdiv(a, b)


def remainder(a: Expr, b: int) -> Expr:
    """What is left of ``a`` over ``b``, both not negative."""
    return a % b if isinstance(a, int) else T.truncmod(a, b)


def least(a: Expr, b: Expr) -> Expr:
    """The smaller one."""
    return min(a, b) if isinstance(a, int) and isinstance(b, int) else T.min(a, b)
