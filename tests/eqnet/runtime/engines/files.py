"""Small models of other engines, made by hand."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RECORD = {
    "layers": {
        "fc": {
            "kind": "Linear",
            "weight": "int4:group16",
            "input": None,
            "shape": [5, 32],
            "dtype": "float32",
        }
    },
    "folded": {},
    "affine": [],
    "remade": {},
    "metadata": {},
}
"""Of one linear layer."""

CODES = np.random.default_rng(0).integers(-8, 8, (32, 5))
SCALE = np.random.default_rng(1).random((2, 5), np.float32) + 0.5
WEIGHT = (CODES * np.repeat(SCALE, 16, 0)).astype(np.float32)
"""[inputs, outputs], dequantized by hand."""

X = np.random.default_rng(2).standard_normal((7, 32)).astype(np.float32)


def linear(**metadata: str) -> onnx.ModelProto:
    """``y = relu(x W)`` with weights of 4 bits in groups of 16 inputs; ``half`` is ``y / 2``."""
    nodes = [
        helper.make_node("DequantizeLinear", ["codes", "scale"], ["w"], axis=0, block_size=16),
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Relu", ["product"], ["y"]),
        helper.make_node("Mul", ["y", "two"], ["half"]),
    ]
    constants = {"codes": CODES.astype(ml_dtypes.int4), "scale": SCALE, "two": np.array(0.5, np.float32)}
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 32])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 5]) for name in ("y", "half")],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    helper.set_model_props(model, {key.replace("_", "."): value for key, value in metadata.items()})
    return model


def saved(model: onnx.ModelProto, path: Path, **how: Any) -> Path:
    onnx.save(model, str(path), **how)
    return path


def compiled(path: Path, record: object | None = None, *, batch: int | None = None) -> Path:
    """A library of TVM with ``main(x) = x W`` for x [N, 32], and ``record`` as its text if there is one."""
    import tvm
    from tvm import relax

    rows = batch or tvm.tirx.Var("n", "int64")
    x = relax.Var("x", relax.TensorType((rows, 32), "float32"))
    builder = relax.BlockBuilder()
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit_output(relax.op.matmul(x, relax.const(WEIGHT)))
        builder.emit_func_output(y)
    addons = []
    if record is not None:
        source = path.with_suffix(".c")
        source.write_text(f"const char eqnet_record[] = {json.dumps(json.dumps(record))};\n")
        addons = [str(path.with_suffix(".o"))]
        subprocess.run(["cc", "-c", "-fPIC", str(source), "-o", addons[0]], check=True)
    tvm.compile(builder.get(), target="llvm").export_library(str(path), addons=addons)
    return path


LIBRARY = {
    "version": "9.8.7",
    "record": RECORD,
    "inputs": [{"name": "x", "shape": [None, 32], "dtype": "float32"}],
    "kernels": "tir",
}
"""What a library of ``compiled`` says of itself."""
