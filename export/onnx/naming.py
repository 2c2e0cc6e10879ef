"""Short names: in a small file, names would take more bytes than codes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

import onnx_ir as ir

from eqnet.export.onnx.lowering import LAYER_KEY

_REPEATED = re.compile(r"(.*\.[a-z_]+)\d+")
"""The name of a layer's part that had to differ from one which may be gone."""


def shorten(graph: ir.Graph, layers: Collection[str]) -> None:
    """Names the product of each layer after it, the parts of each layer as they are, and all else by numbers.

    Further uses of a layer have a number behind its name. Shapes of values in between are left out, too; whoever reads
    the file infers them.
    """
    uses: Counter[str] = Counter()
    for i, node in enumerate(graph):
        node.name = name = node.meta.get(LAYER_KEY)
        if name is not None:
            uses[name] += 1
            if uses[name] > 1:
                node.name = f"{name}:{uses[name]}"
        for j, value in enumerate(node.outputs):
            if not value.is_graph_output():
                value.name = f"v{i}" if j == 0 else f"v{i}_{j}"
                value.shape = value.type = None
    for i, (name, value) in enumerate(list(graph.initializers.items())):
        value.shape = value.type = None  # which its tensor has
        repeated = _REPEATED.fullmatch(name)
        if name.rpartition(".")[0] not in layers:
            value.name = f"c{i}"
        elif repeated and repeated[1] not in graph.initializers:
            value.name = repeated[1]
