"""What rules share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnxscript.rewriter import pattern

TEMPORARY = "//"
"""How names of initializers begin that are given up in the end."""


class Rule(pattern.RewriteRuleClassBase):
    """A pattern of operators and what takes its place; a subclass says in its docstring what it does and why."""

    def check(self, op: Any, *args: Any, **kwargs: Any) -> Any:
        """What the rewriter asks; ``op`` is of no use here."""
        return self.applies(**kwargs)

    def applies(self, *args: Any, **kwargs: Any) -> bool:
        """Whether it applies to the values that the pattern matches, by their names there."""
        return True


def apply(model: ir.Model, rules: Sequence[type[Rule]]) -> None:
    """Applies ``rules`` until none of them applies any more; each of them has to bring the graph nearer to that."""
    made = pattern.RewriteRuleSet([rule.rule() for rule in rules])  # type: ignore[no-untyped-call]
    while made.apply_to_model(model):
        pass


def number(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """What ``value`` always is; None if that depends on the input of the graph."""
    tensor = ir.convenience.get_const_tensor(value) if value is not None else None
    return tensor.numpy() if tensor is not None else None


def scalar(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """``number`` of a value with one element, of shape []; None for any other."""
    array = number(value)
    return array.reshape(()) if array is not None and array.size == 1 else None


_COUNT = itertools.count()


def constant(op: Any, array: np.ndarray[Any, Any] | np.generic) -> ir.Value:
    """An initializer; equal ones become one in the end, and get names that last."""
    value: ir.Value = op.initializer(ir.tensor(np.asarray(array)), f"{TEMPORARY}{next(_COUNT)}")
    return value


def again(op: Any, node: ir.Node, *inputs: ir.Value | None) -> ir.Value:
    """The operator of ``node`` on other inputs."""
    result: ir.Value = getattr(op, node.op_type)(*inputs, **node.attributes)
    return result


def producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    """The node that makes ``value``, if it is of that type."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == op_type and node.domain in ("", "ai.onnx") else None


def code_of(x: np.ndarray[Any, Any], scale: np.ndarray[Any, Any], zero_point: np.ndarray[Any, Any]) -> np.uint8:
    """What QuantizeLinear makes of a number, in UINT8."""
    with np.errstate(over="ignore"):
        code = np.rint(np.float32(x) / scale.astype(np.float32)) + zero_point
    return np.uint8(np.clip(code, 0, 255))
