"""Which opset a file needs, and which the packages that are installed know."""

from __future__ import annotations

from collections.abc import Mapping

import onnx

from eqnet.errors import InputError
from eqnet.export.onnx.blocks import blocks_for
from eqnet.export.onnx.codes import OLDEST_OPSET, storage
from eqnet.packed.layers import PackedEmbedding, PackedLayer, PackedLinear


def opset_for(layers: Mapping[str, PackedLayer], asked: int | None, portable: bool = False) -> int:
    """The one asked for, or the oldest one that has the types of all codes.

    Args:
        layers: by name.
        asked: by the user.
        portable: see ``OnnxOptions``.

    Raises:
        InputError: it is too old for a layer, which the message names, or unknown to the onnx package.
    """
    needs = {
        name: storage(layer.weight_format).opset for name, layer in layers.items() if not _has_planes(layer, portable)
    }
    newest = onnx.defs.onnx_opset_version()
    opset = asked if asked is not None else max([OLDEST_OPSET, *needs.values()])
    if opset < OLDEST_OPSET:
        raise InputError(f"opset {opset}: codes of 4 bits and scales for groups need {OLDEST_OPSET}; give that or more")
    for name, needed in needs.items():
        if opset < needed:
            bits = layers[name].weight_format.bits
            raise InputError(
                f"opset {opset} has no type for the {bits} bits of layer '{name}'; that needs opset {needed}: give "
                f"that or more, or give the layer more bits"
            )
    if opset > newest:
        raise InputError(
            f"opset {opset}: the installed onnx {onnx.__version__} knows opsets up to {newest}; "
            + ("give one of those" if asked is not None else "pip install -U onnx")
        )
    return opset


def _has_planes(layer: PackedLayer, portable: bool) -> bool:
    """Whether the codes of a layer are bytes in the file, for which any opset will do."""
    if isinstance(layer, PackedLinear):
        multiplied_in_float = layer.input_format is None or layer.weight.scale.shape[1] > 1
        return multiplied_in_float and blocks_for(layer, portable) is not None
    return isinstance(layer, PackedEmbedding)
