"""Dot products of four bytes, by what the processor has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvm.target import codegen
from tvm.tirx.script.builder import ir as T

from eqnet.export.tvm.tir.emit import Expr


@dataclass(frozen=True)
class Dot:
    """An instruction that adds four products of bytes to each 32-bit lane.

    Attributes:
        name: of the intrinsic.
        features: of LLVM, any of which gives it.
        lanes: of a vector.
        registers: there are.
        signed_inputs: whether it takes inputs less 128, as signed bytes.
    """

    name: str
    features: frozenset[str]
    lanes: int
    registers: int
    signed_inputs: bool = False

    def __call__(self, total: Expr, inputs: Expr, weights: Expr) -> Expr:
        """``total`` [lanes] of int32 plus products of one pixel's four inputs, an int32, and weights [lanes · 4]."""
        kind = "int8" if self.signed_inputs else "uint8"
        four = T.reinterpret(f"{kind}x{4 * self.lanes}", T.broadcast(inputs, self.lanes))
        return T.call_llvm_pure_intrin(f"int32x{self.lanes}", self.name, total, four, weights)


DOTS = (
    Dot("llvm.x86.avx512.vpdpbusd.512", frozenset({"avx512vnni"}), 16, 32),
    Dot("llvm.x86.avx512.vpdpbusd.256", frozenset({"avxvnni"}), 8, 16),
    Dot("llvm.aarch64.neon.sdot.v4i32.v16i8", frozenset({"dotprod"}), 4, 32, signed_inputs=True),
)
"""Best first."""


def best_dot(target: Any) -> Dot | None:
    """The best that a TVM target of the kind llvm has; None if it has none."""
    features = codegen.llvm_get_cpu_features(target)
    return next((dot for dot in DOTS if dot.features & features), None)
