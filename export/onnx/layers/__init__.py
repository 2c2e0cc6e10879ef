"""How packed layers are written, one file a kind; importing this package registers them all."""

from eqnet.export.onnx.layers import conv, conv_transpose, embedding, linear, weight, weight_only

__all__ = ["conv", "conv_transpose", "embedding", "linear", "weight", "weight_only"]
