"""Zeros around codes, added by the convolution itself."""

from __future__ import annotations

import onnx_ir as ir

from eqnet.export.onnx.rules.rule import number, producer, scalar


class PadIntoConv(ir.passes.InPlacePass):
    """``Conv(DequantizeLinear(Pad(codes, zero point))) → Conv(DequantizeLinear(codes))`` with those pads.

    It is no pattern, as the node has to stay the one that is known to be a layer's.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Changes all such convolutions."""
        changed = [_absorb(model.graph, node) for node in list(model.graph) if node.op_type == "Conv"]
        return ir.passes.PassResult(model, any(changed))


def _absorb(graph: ir.Graph, conv: ir.Node) -> bool:
    dequantize = producer(conv.inputs[0], "DequantizeLinear")
    pad = producer(dequantize.inputs[0], "Pad") if dequantize is not None else None
    pads = _zeros_around(pad, dequantize) if pad is not None and dequantize is not None else None
    if pads is None or pad is None or dequantize is None or "auto_pad" in conv.attributes:
        return False
    before = conv.attributes.get_ints("pads", [0] * len(pads))
    assert before is not None
    conv.attributes["pads"] = ir.AttrInt64s("pads", [a + b for a, b in zip(before, pads, strict=True)])
    unpadded = ir.Node("", "DequantizeLinear", [pad.inputs[0], *dequantize.inputs[1:]])
    graph.insert_before(conv, unpadded)
    unpadded.outputs[0].dtype = ir.DataType.FLOAT
    conv.replace_input_with(0, unpadded.outputs[0])
    return True


def _zeros_around(pad: ir.Node, dequantize: ir.Node) -> list[int] | None:
    """What ``pad`` adds to the positions, if that is zeros and nothing else is added; in the order of Conv's pads."""
    sizes, value = number(pad.inputs[1]), scalar(pad.inputs[2]) if len(pad.inputs) > 2 else None
    zero = scalar(dequantize.inputs[2]) if len(dequantize.inputs) > 2 else None
    if sizes is None or value is None or zero is None or value != zero or (sizes < 0).any():
        return None
    if pad.attributes.get_string("mode", "constant") != "constant" or len(pad.inputs) > 3:
        return None
    rank = len(sizes) // 2
    low, high = sizes[:rank], sizes[rank:]
    if low[:2].any() or high[:2].any():
        return None
    return [int(size) for size in (*low[2:], *high[2:])]
