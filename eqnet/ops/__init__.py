"""The operators of eqnet as ``torch.library`` ops: a plain-torch default for every device, C++ for the CPU, CUDA."""

from eqnet.ops.embedding import packed_embedding
from eqnet.ops.fake_quantize import fake_quantize
from eqnet.ops.linear import packed_linear, packed_linear_static
from eqnet.ops.panels import Panels
from eqnet.ops.tiles import Tiles

__all__ = ["Panels", "Tiles", "fake_quantize", "packed_embedding", "packed_linear", "packed_linear_static"]
