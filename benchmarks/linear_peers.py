"""Linear layers of other projects on quantized weights, each with as many copies of its weight as are asked for."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from native import compiled
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

Call = Callable[[], object]


@dataclass(frozen=True)
class Shape:
    """What every layer of a run has in common."""

    rows: int
    cols: int
    threads: int

    def inputs(self, m: int) -> Tensor:
        """Activations, float32 [m, cols]; the same for every layer."""
        return torch.randn(m, self.cols, generator=torch.Generator().manual_seed(m))

    def weight(self) -> Tensor:
        """A float32 weight [rows, cols] for what quantizes by itself."""
        return torch.randn(self.rows, self.cols, generator=torch.Generator().manual_seed(0)) / self.cols**0.5

    def codes(self, bits: int) -> Tensor:
        """Random codes, uint8 [rows, cols]: which ones does not matter to the time."""
        generator = torch.Generator().manual_seed(bits)
        return torch.randint(1 << bits, (self.rows, self.cols), generator=generator, dtype=torch.uint8)

    def scales(self, group: int, generator: int = 0) -> Tensor:
        """Random positive scales, float32 [rows, groups]."""
        groups = -(-self.cols // group) if group else 1
        return torch.rand(self.rows, groups, generator=torch.Generator().manual_seed(generator)) / self.cols + 1e-4


@dataclass(frozen=True)
class Layer:
    """One way to multiply by a quantized [rows, cols] weight.

    Attributes:
        name: whose, and in which of its formats.
        owner: the project.
        bits: of a code.
        group: inputs that share a scale; 0 if a whole row does.
        compute: ``int8`` or ``float``: what activations are when they are multiplied.
        nbytes: of the stored weight, with scales and zero points.
        bind: from a number of activation rows and of distinct copies to a call, and how many products that makes.
    """

    name: str
    owner: str
    bits: int
    group: int
    compute: str
    nbytes: int
    bind: Callable[[int, int], tuple[Call, int]]

    def bpw(self, shape: Shape) -> float:
        """Stored bits a weight."""
        return 8 * self.nbytes / (shape.rows * shape.cols)


class Copies:
    """Copies of one weight, made when they are first needed."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: list[Any] = []

    def first(self, count: int) -> list[Any]:
        self._made.extend(self._make() for _ in range(count - len(self._made)))
        return self._made[:count]


def rotating(
    copies: Copies, multiply: Callable[[Tensor, Any], object], inputs: Callable[[int], Tensor]
) -> Callable[[int, int], tuple[Call, int]]:
    """The ``bind`` of a layer that is a function of activations and one weight."""

    def bind(m: int, count: int) -> tuple[Call, int]:
        x, weights = inputs(m), copies.first(count)

        def call() -> None:
            for weight in weights:
                multiply(x, weight)

        return call, count

    return bind


def onnx_runtime(shape: Shape, bits: int, group: int, accuracy: int) -> Layer:
    """MatMulNBits; accuracy level 0 multiplies in float32, 4 in int8. Copies are nodes of one graph."""
    rows, cols = shape.rows, shape.cols
    codes = shape.codes(bits).view(rows, cols // group, group * bits // 8, 8 // bits).numpy()
    packed = np.bitwise_or.reduce(codes << (np.arange(8 // bits, dtype=np.uint8) * bits), axis=-1)
    scales = shape.scales(group).flatten().numpy()

    @cache
    def session(count: int) -> onnxruntime.InferenceSession:
        nodes, weights = [], []
        for i in range(count):
            names = ["x", f"codes{i}", f"scales{i}"]
            settings = {"K": cols, "N": rows, "bits": bits, "block_size": group, "accuracy_level": accuracy}
            nodes.append(helper.make_node("MatMulNBits", names, [f"y{i}"], domain="com.microsoft", **settings))
            # Equal weights would become one weight, and their products one product.
            arrays = (packed ^ np.uint8(i), scales)
            weights += [numpy_helper.from_array(array, name) for array, name in zip(arrays, names[1:], strict=True)]
        graph = helper.make_graph(
            nodes,
            "copies",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["m", cols])],
            [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, ["m", rows]) for i in range(count)],
            weights,
        )
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = shape.threads
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def bind(m: int, count: int) -> tuple[Call, int]:
        binding = session(count).io_binding()
        binding.bind_ortvalue_input("x", onnxruntime.OrtValue.ortvalue_from_numpy(shape.inputs(m).numpy()))
        for i in range(count):
            output = onnxruntime.OrtValue.ortvalue_from_shape_and_type([m, rows], np.float32, "cpu")
            binding.bind_ortvalue_output(f"y{i}", output)
        return partial(session(count).run_with_iobinding, binding), count

    name = f"onnxruntime {bits} bits g{group} accuracy {accuracy}"
    compute = "int8" if accuracy == 4 else "float"
    return Layer(name, "onnxruntime", bits, group, compute, packed.nbytes + scales.nbytes, bind)


def torch_int4(shape: Shape, group: int) -> Layer:
    """The int4 product that torchao uses, with bfloat16 activations, scales and zeros."""
    codes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(shape.codes(4).int(), 1)
    pairs = torch.stack([shape.scales(group), shape.scales(group, 1)], -1).transpose(0, 1).contiguous().bfloat16()
    bind = rotating(
        Copies(lambda: (codes.clone(), pairs.clone())),
        lambda x, weight: torch.ops.aten._weight_int4pack_mm_for_cpu(x, weight[0], group, weight[1]),
        lambda m: shape.inputs(m).bfloat16(),
    )
    return Layer(f"torch int4 g{group} bf16", "torch", 4, group, "float", codes.nbytes + pairs.nbytes, bind)


def torch_dynamic(shape: Shape, engine: str) -> Layer:
    """The dynamically quantized linear layer: int8 weights, one scale a row, and int8 activations."""
    weight = shape.weight()
    zeros = torch.zeros(shape.rows, dtype=torch.long)
    scales = weight.abs().amax(1).double() / 127
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # deprecated, yet what the layer is made of
        quantized = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)

    def make() -> Any:
        torch.backends.quantized.engine = engine
        return torch.ops.quantized.linear_prepack(quantized, None)

    bind = rotating(Copies(make), torch.ops.quantized.linear_dynamic, shape.inputs)
    nbytes = shape.rows * shape.cols + 4 * shape.rows
    return Layer(f"torch dynamic int8 {engine}", "torch", 8, 0, "int8", nbytes, bind)


GGML_TYPES = {"q4_0": (4, 32), "q4_K": (4, 32), "q8_0": (8, 32), "q2_K": (2, 16), "q3_K": (3, 16)}
"""Bits of a code and the inputs that share a scale."""

HOT_PRODUCTS = 8
"""Products of one graph on one weight, so that what ggml does once a graph counts as little as in a whole model."""


def ggml(shape: Shape, library: ctypes.CDLL, kind: str, repack: bool, copies: int) -> Layer | None:
    """A product of ggml's, which quantizes the activations to int8; None if it has no such layout on this machine."""
    bits, group = GGML_TYPES[kind]
    weight = shape.weight()
    handle = library.ggml_shim_weights(
        kind.encode(), repack, shape.rows, shape.cols, copies, shape.threads, weight.data_ptr()
    )
    if not handle:
        return None

    def bind(m: int, count: int) -> tuple[Call, int]:
        x = shape.inputs(m)
        products = max(count, HOT_PRODUCTS)
        product = library.ggml_shim_product(handle, m, products, min(count, copies), x.data_ptr())
        return partial(library.ggml_shim_compute, product), products

    name = f"ggml {kind}{' repacked' if repack else ''}"
    return Layer(name, "ggml", bits, group, "int8", library.ggml_shim_bytes(handle), bind)


@cache
def ggml_library(folder: Path, include: Path) -> ctypes.CDLL:
    """The shim, linked with the ggml in ``folder``."""
    flags = ["-lggml", "-lggml-base", "-lggml-cpu"]
    library = compiled("ggml_shim.cpp", f"-I{include}", f"-L{folder}", f"-Wl,-rpath,{folder}", *flags)
    pointer, integer, size = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "weights": (pointer, [ctypes.c_char_p, ctypes.c_bool, size, size, integer, integer, pointer]),
        "bytes": (size, [pointer]),
        "product": (pointer, [pointer, size, integer, integer, pointer]),
        "compute": (None, [pointer]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, f"ggml_shim_{name}")
        function.restype, function.argtypes = result, arguments
    return library


def peers(shape: Shape, copies: int, ggml_at: tuple[Path, Path] | None) -> list[Layer]:
    """Every peer that the bars are held against; ``ggml_at`` are the folders of its libraries and headers, if given."""
    layers: list[Layer | None] = [
        onnx_runtime(shape, bits, group, accuracy)
        for bits, group, accuracy in [
            (4, 32, 0),
            (4, 32, 4),
            (4, 128, 0),
            (4, 128, 4),
            (8, 32, 4),
            (8, 128, 4),
            (2, 128, 4),
        ]
    ]
    layers += [torch_int4(shape, group) for group in (32, 128)]
    layers += [torch_dynamic(shape, engine) for engine in ("fbgemm", "onednn")]
    if ggml_at is not None:
        library = ggml_library(*ggml_at)
        kinds = [("q4_0", True), ("q4_K", False), ("q4_K", True), ("q8_0", False), ("q2_K", False), ("q3_K", False)]
        layers += [ggml(shape, library, kind, repack, copies) for kind, repack in kinds]
    return [layer for layer in layers if layer is not None]
