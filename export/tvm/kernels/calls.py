"""Relax calls of what eqnet's kernels do."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import relax

from eqnet.packed.layers import PackedLayer

PROGRAM, LINEAR = "eqnet_program", "eqnet_linear"
"""Functions in the library: of the input and the result; of the input, the path of the layer, and the result."""


_TYPES = ("float32", "bfloat16")
"""That the kernels take."""


def program_module(name: str, in_shape: tuple[int, ...], result: tuple[int, ...]) -> Any:
    """An IRModule whose function ``main`` is the serialized program that the library carries.

    Args:
        name: of the input.
        in_shape: of one input, without the number of samples, which may be any.
        result: likewise, of one result.
    """
    builder, samples = relax.BlockBuilder(), tvm.tirx.Var("n", "int64")
    x = relax.Var(name, relax.TensorType((samples, *in_shape), "float32"))
    out = relax.TensorType((samples, *result), "float32")
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(relax.op.call_dps_packed(PROGRAM, [x], out_ty=out))
        builder.emit_func_output(y)
    return builder.get()


def linear_call(builder: Any, x: Any, layer: PackedLayer) -> Any:
    """Emits the product with the matrix of a packed layer, and its bias; both are read from the library's bytes.

    A static input is rounded to its codes within the call.

    Args:
        builder: a ``relax.BlockBuilder`` within a function.
        x: [..., cols], in floating point and with a known number of dimensions.
        layer: found again by its ``path``.

    Returns:
        [..., rows], of the type of ``x``.
    """
    dtype = str(x.ty.dtype)
    if dtype not in _TYPES:
        return builder.emit(
            relax.op.astype(linear_call(builder, builder.emit(relax.op.astype(x, "float32")), layer), dtype)
        )
    out = relax.TensorType((*[*x.ty.shape.values][:-1], layer.rows), dtype)
    return builder.emit(relax.op.call_dps_packed(LINEAR, [x, tvm.ir.StringImm(layer.path)], out_ty=out))


def called_layers(module: Any) -> list[str]:
    """Paths of the layers that ``linear_call`` has put into a module, in their order."""
    names: dict[str, None] = {}

    def visit(expression: Any) -> None:
        if isinstance(expression, tvm.ir.Call) and expression.op == _CALL:
            function, arguments = expression.args[:2]
            if isinstance(function, relax.ExternFunc) and str(function.global_symbol) == LINEAR:
                names.setdefault(str(arguments.fields[1].value))

    for function in module.functions.values():
        if isinstance(function, relax.Function):
            relax.analysis.post_order_visit(function.body, visit)
    return list(names)


_CALL = tvm.ir.Op.get("relax.call_dps_packed")
