"""The official ONNX backend test vectors of all operators that quantize to integers.

The onnx package carries them as code, one module a group of operators, which makes them when it is imported. They are
found by what is in its folder, so that nothing that a newer onnx adds is missed.
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case import node as package

OPERATORS = sorted(
    schema.name
    for schema in onnx.defs.get_all_schemas()
    if schema.domain == "" and re.search("quantize|qlinear|integer", schema.name.lower())
)
"""All of the standard's own that quantize, or compute on codes."""


@dataclass(frozen=True)
class Vector:
    """What an operator is given, and what it must return.

    Attributes:
        operator: of ONNX.
        attributes: those that are given.
        inputs: by the names that the standard gives them; those left out are missing.
        outputs: in their order.
        kinds: names of ONNX's types of all inputs, and of the outputs, by their numbers from 0.
    """

    operator: str
    attributes: dict[str, Any]
    inputs: dict[str, NDArray[Any]]
    outputs: tuple[NDArray[Any], ...]
    kinds: dict[str | int, str]


def vectors() -> dict[str, Vector]:
    """All of them, by name."""
    return dict(sorted(_found()))


def _found() -> Iterator[tuple[str, Vector]]:
    mentioned = re.compile("|".join(f'"{operator}"' for operator in OPERATORS))
    root = Path(package.__path__[0])
    for path in sorted(root.rglob("*.py")):  # of all modules only the fewest are needed; to import all takes seconds
        if mentioned.search(path.read_text(encoding="utf-8")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of casts that overflow on purpose
                importlib.import_module(".".join([package.__name__, *path.relative_to(root).with_suffix("").parts]))
    for case in package._NodeTestCases:
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].op_type in OPERATORS:  # others spell the same vectors out in simpler operators
            for number, (given, expected) in enumerate(case.data_sets):
                name = case.name.removeprefix("test_") + (f" {number}" if number else "")
                yield name, _vector(case.model.graph, given, expected)


def _vector(graph: onnx.GraphProto, given: list[Any], expected: list[Any]) -> Vector:
    node = graph.node[0]
    formal = onnx.defs.get_schema(node.op_type).inputs
    names = [parameter.name for parameter, actual in zip(formal, node.input) if actual]
    values: list[tuple[str | int, onnx.ValueInfoProto]] = [*zip(names, graph.input, strict=True)]
    values += enumerate(graph.output)
    return Vector(
        node.op_type,
        {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute},
        dict(zip(names, map(_array, given), strict=True)),
        tuple(map(_array, expected)),
        {name: TensorProto.DataType.Name(value.type.tensor_type.elem_type) for name, value in values},
    )


def _array(value: Any) -> NDArray[Any]:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)
